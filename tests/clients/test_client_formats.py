"""Every format through the cluster: a real chat template, a scripted answer, and what OpenAI's client makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asking import wait_until_free
from format_models import all_keys, ends_of, make_folder
from scripted_nodes import ScriptedCluster

from parsers import get_format
from parsers.writing import write_calls

SAMPLE = {"hermes", "qwen3_coder", "gpt_oss", "kimi_k2", "deepseek_v31", "gemma4", "llama3_json", "minimax_m3"}
CALLS = [
    ("write_file", {"path": "notes/día.txt", "content": 'Line "one"\n{two} & <b>three</b> 🙂\\n'}),
    ("search", {"query": "herons", "limit": 3, "exact": False, "tags": ["a", "b"]}),
]
SCHEMAS: dict[str, Any] = {
    "write_file": {"path": {"type": "string"}, "content": {"type": "string"}},
    "search": {
        "query": {"type": "string"},
        "limit": {"type": "integer"},
        "exact": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Does what {name} says",
            "parameters": {"type": "object", "properties": properties, "required": list(properties)},
        },
    }
    for name, properties in SCHEMAS.items()
]
TASK, RESULT, ANSWER = "Write the notes and search.", "4711 reeds were counted", "Done: 4711 reeds."
ONE_CALL = {"beam", "gpt_oss", "muse", "muse_glimmer"}
"""Formats in which the token that closes a call ends the turn."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    folder = tmp_path_factory.mktemp("formats")
    model = folder / "model"
    make_folder(model, all_keys(), marked=True)
    cluster = ScriptedCluster(folder, tokenizer=model / "tokenizer.json")
    try:
        for _ in range(2):
            cluster.add_scripted_node()
        cluster.load(str(model))
        cluster.add_gateway()
        yield cluster
        cluster.stop()
    finally:
        cluster.kill()


@pytest.mark.parametrize("key", [pytest.param(k, marks=[] if k in SAMPLE else pytest.mark.slow) for k in all_keys()])
def test_calls_results_and_answer(cluster: ScriptedCluster, key: str) -> None:
    spec = get_format(key)
    calls = CALLS[:1] if key in ONE_CALL else CALLS
    said = write_calls(spec, [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls])
    thoughts = [(thought.open, thought.close) for thought in spec.thoughts]
    cluster.say((TASK, said), ([TASK, RESULT], ANSWER), ends=ends_of(spec), thoughts=thoughts)
    client = openai.OpenAI(base_url=f"{cluster.base}/v1", api_key="none", max_retries=0, timeout=60)
    messages: list[Any] = [{"role": "user", "content": TASK}]
    for stream in (True, False):
        message, reason = ask(client, key, messages, stream=stream)
        assert reason == "tool_calls"
        assert [call.function.name for call in message.tool_calls or []] == [name for name, _ in calls]
        assert [json.loads(call.function.arguments) for call in message.tool_calls] == [value for _, value in calls]
        assert not (message.content or "").strip()
        assert len({call.id for call in message.tool_calls}) == len(calls)
    messages.append(message.model_dump(exclude_none=True))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in message.tool_calls]
    message, reason = ask(client, key, messages, stream=True)
    assert (message.content or "").strip() == ANSWER
    assert (reason, message.tool_calls or []) == ("stop", [])
    wait_until_free(cluster)


def ask(client: openai.OpenAI, model: str, messages: list[Any], *, stream: bool) -> tuple[Any, str | None]:
    """One turn; the message as the client puts it together, and why it ended."""
    asked: dict[str, Any] = {"model": model, "messages": messages, "tools": TOOLS, "max_tokens": 400}
    if not stream:
        choice = client.chat.completions.create(**asked).choices[0]
        return choice.message, choice.finish_reason
    with client.chat.completions.stream(**asked) as events:
        final = events.get_final_completion().choices[0]
    return final.message, final.finish_reason
