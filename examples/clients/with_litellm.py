"""litellm: `pip install litellm`."""

import json
import os

import litellm

litellm.telemetry = False


def get_weather(city: str) -> str:
    print(f"get_weather({city!r})")
    return f"21 degrees and sunny in {city}"


parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
described = {"name": "get_weather", "description": "Get the current weather for a city", "parameters": parameters}
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
while True:
    chunks = litellm.completion(
        model="openai/" + os.environ.get("TANDEM_MODEL", "tandem-demo-qwen"),
        api_base=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        messages=messages,
        tools=[{"type": "function", "function": described}],
        stream=True,
    )
    answer = litellm.stream_chunk_builder(list(chunks), messages=messages).choices[0].message
    messages.append(answer.model_dump(exclude_none=True))
    if not answer.tool_calls:
        break
    for call in answer.tool_calls:
        result = get_weather(**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
print(answer.content)
