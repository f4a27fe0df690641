"""pydantic-ai: `pip install "pydantic-ai-slim[openai]"`."""

import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
agent = Agent(OpenAIChatModel(os.environ.get("TANDEM_MODEL", "tandem-demo-qwen"), provider=provider))


@agent.tool_plain
def get_weather(city: str) -> str:
    """Get the current weather for a city"""
    print(f"get_weather({city!r})")
    return f"21 degrees and sunny in {city}"


print(agent.run_sync("What is the weather in Paris?").output)
