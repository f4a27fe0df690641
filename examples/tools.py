"""An agent's loop: the model asks for tools, this program runs them, until the model answers in words.

    python examples/tools.py                    # asks the questions below, in one conversation
    python examples/tools.py "What is 6 * 7?"   # asks yours

It talks to `make run` and needs `pip install openai`; OPENAI_BASE_URL and TANDEM_MODEL name another gateway and model.
"""

import ast
import inspect
import json
import operator
import os
import sys

import openai

MODEL = os.environ.get("TANDEM_MODEL", "tandem-demo-qwen")
QUESTIONS = ["What is the weather in Paris?", "What is 12 * 7?", "What is the weather in Oslo?"]
WEATHER = {"paris": "21 degrees", "oslo": "4 degrees", "rome": "27 degrees", "tokyo": "18 degrees"}
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def get_weather(city: str) -> str:
    """Get the current weather for a city"""
    return WEATHER.get(city.lower(), f"unknown city {city}")


def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression"""

    def value(node: ast.AST) -> float:  # numbers, + - * / and parentheses: nothing else is run
        match node:
            case ast.Constant(int() | float() as number):
                return number
            case ast.BinOp(left, operation, right) if type(operation) in OPERATIONS:
                return OPERATIONS[type(operation)](value(left), value(right))
        raise ValueError(f"{ast.unparse(node)} is not arithmetic")

    return str(value(ast.parse(expression, mode="eval").body))


def describe(run) -> dict:
    names = list(inspect.signature(run).parameters)
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
    return {"type": "function", "function": {"name": run.__name__, "description": run.__doc__, "parameters": schema}}


RUN = {run.__name__: run for run in (get_weather, calculator)}


def ask(client: openai.OpenAI, messages: list) -> list:
    """One turn of the model, printed as it streams in and added to the messages; the calls that it makes."""
    asked = {"model": MODEL, "messages": messages, "tools": [describe(run) for run in RUN.values()]}
    with client.chat.completions.stream(**asked, temperature=0, max_tokens=256) as stream:
        for event in stream:
            if event.type == "content.delta":
                print(event.delta, end="", flush=True)
        messages.append(stream.get_final_completion().choices[0].message)
    return messages[-1].tool_calls or []


def main() -> None:
    messages = []
    client = openai.OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:52525/v1"), api_key="none")
    for question in sys.argv[1:] or QUESTIONS:
        print(f"> {question}")
        messages.append({"role": "user", "content": question})
        while calls := ask(client, messages):
            for call in calls:
                try:
                    result = RUN[call.function.name](**json.loads(call.function.arguments))
                except Exception as error:  # noqa: BLE001 - the model made it, and the model reads about it
                    result = f"error: {error!r}"
                print(f"  {call.function.name}({call.function.arguments}) = {result}")
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        print()


main()
