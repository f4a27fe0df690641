"""langchain-openai: `pip install langchain-openai`."""

import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Get the current weather for a city"""
    print(f"get_weather({city!r})")
    return f"21 degrees and sunny in {city}"


model = ChatOpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
    model=os.environ.get("TANDEM_MODEL", "tandem-demo-qwen"),
).bind_tools([get_weather])

messages = [HumanMessage("What is the weather in Paris?")]
while True:
    chunks = list(model.stream(messages))
    answer = sum(chunks[1:], start=chunks[0])
    messages.append(answer)
    if not answer.tool_calls:
        break
    messages += [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
print(answer.content)
