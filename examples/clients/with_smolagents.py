"""smolagents, which requires a call in every turn and sends stop strings: `pip install "smolagents[openai]"`."""

import os

from smolagents import OpenAIServerModel, ToolCallingAgent, tool


@tool
def get_weather(city: str) -> str:
    """Get the current weather for a city

    Args:
        city: the city's name
    """
    print(f"get_weather({city!r})")
    return f"21 degrees and sunny in {city}"


model = OpenAIServerModel(
    model_id=os.environ.get("TANDEM_MODEL", "tandem-demo-qwen"),
    api_base=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
agent = ToolCallingAgent(tools=[get_weather], model=model, max_steps=4, verbosity_level=0)
print(agent.run("What is the weather in Paris?"))
