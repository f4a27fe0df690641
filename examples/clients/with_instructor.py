"""instructor, which names the one tool that must be called: `pip install instructor`."""

import os

import instructor
import openai
from pydantic import BaseModel, Field


class Weather(BaseModel):
    """Get the current weather for a city"""

    city: str = Field(description="the city's name")


client = instructor.from_openai(
    openai.OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    ),
    mode=instructor.Mode.TOOLS,
)
model = os.environ.get("TANDEM_MODEL", "tandem-demo-qwen")
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
asked, answer = client.create_with_completion(model=model, messages=messages, response_model=Weather, max_retries=0)
print(f"get_weather({asked.city!r})")
message = answer.choices[0].message
messages.append(message.model_dump(include={"role", "content", "tool_calls"}))
for call in message.tool_calls:
    result = f"21 degrees and sunny in {asked.city}"
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
print(client.create(model=model, messages=messages, response_model=None).choices[0].message.content)
