"""OpenAI's Agents SDK: `pip install openai-agents`."""

import asyncio
import os

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)


@function_tool
def get_weather(city: str) -> str:
    """Get the current weather for a city"""
    print(f"get_weather({city!r})")
    return f"21 degrees and sunny in {city}"


agent = Agent(
    name="weather",
    model=OpenAIChatCompletionsModel(os.environ.get("TANDEM_MODEL", "tandem-demo-qwen"), client),
    tools=[get_weather],
)


async def main() -> None:
    run = Runner.run_streamed(agent, "What is the weather in Paris?")
    async for _ in run.stream_events():
        pass
    print(run.final_output)


asyncio.run(main())
