"""Every format through the cluster: a real chat template, a scripted answer, and what OpenAI's client makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
from asking import wait_until_free
from format_models import all_keys, ends_of, make_folder, speaker_of
from running_cluster import until
from scripted_nodes import ScriptedCluster, Thinking

from node.engine.tokenizer import load_tokenizer
from node.serving.prompt import PromptRenderer
from parsers import Format, get_format
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
THOUGHT = "Let me see."
TASK, RESULT, ANSWER = "Write the notes and search.", "4711 reeds were counted", "Done: 4711 reeds."
ONE_CALL = {"beam", "gpt_oss", "muse", "muse_glimmer"}
"""Formats in which the token that closes a call ends the turn."""
WORDS = "  I do both at once. "
"""What is said before calls, in the formats whose models call after text."""
CLOSED = {"hy_v3"}
"""Formats whose template closes the thought that it opens, if nothing else is asked for."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    cluster = ScriptedCluster(tmp_path_factory.mktemp("formats"))
    try:
        for _ in range(2):
            cluster.add_scripted_node()
        cluster.add_gateway()
        yield cluster
        cluster.stop()
    finally:
        cluster.kill()


@contextmanager
def serving(cluster: ScriptedCluster, key: str, *, marked: bool) -> Iterator[Path]:
    """A model that speaks the format is loaded; its tokenizer's file."""
    folder = cluster.folder / ("marked" if marked else "unmarked") / key
    speaker = make_folder(folder, key, marked=marked)
    detection = PromptRenderer(load_tokenizer(folder), speaker.template, speaker.tool_format).detection
    assert (detection.format.key, detection.how == "setting") == (key, bool(speaker.tool_format))
    cluster.load(str(folder))
    # The gateway hears of it a moment later than whoever had it loaded.
    until(lambda: requests.get(f"{cluster.base}/v1/models/{key}", timeout=10).ok, 10)
    try:
        yield folder / "tokenizer.json"
    finally:
        cluster.unload(key)


def parameters() -> list[Any]:
    """Every format with marker tokens, some without; each says where its template comes from, and what tells it."""
    made = []
    for key in all_keys():
        speaker = speaker_of(key)
        told = ("set" if speaker.tool_format else "told") if speaker.name else "no template at hand"
        for marked in (True, False) if key in SAMPLE else (True,):
            name = f"{key}-{told}" + ("" if marked else "-markers of several tokens")
            slow = [] if key in SAMPLE and (marked or key == "hermes") else [pytest.mark.slow]
            made.append(pytest.param(key, marked, id=name, marks=slow))
    return made


@pytest.mark.parametrize(("key", "marked"), parameters())
def test_calls_results_and_answer(cluster: ScriptedCluster, key: str, marked: bool) -> None:
    spec = get_format(key)
    calls = CALLS[:1] if key in ONE_CALL else CALLS
    words = "" if spec.bare else WORDS
    said = words + write_calls(spec, [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls])
    client = openai.OpenAI(base_url=f"{cluster.base}/v1", api_key="none", max_retries=0, timeout=60)
    messages: list[Any] = [{"role": "user", "content": TASK}]
    with serving(cluster, key, marked=marked) as tokenizer:
        cluster.say(
            (TASK, said),
            ([TASK, RESULT], ANSWER.join(spec.wire.answer)),
            ends=ends_of(spec),
            thoughts=thoughts_of(spec),
            thinks=bool(spec.thoughts),
            tokenizer=tokenizer,
        )
        thought = THOUGHT if spec.thoughts and key not in CLOSED else None
        for stream in (True, False):
            message, reason = ask(client, key, messages, stream=stream)
            assert reason == "tool_calls"
            assert (message.content or "", reasoning_of(message)) == (words, thought)
            assert [call.function.name for call in message.tool_calls or []] == [name for name, _ in calls]
            assert [json.loads(call.function.arguments) for call in message.tool_calls] == [value for _, value in calls]
            assert len({call.id for call in message.tool_calls}) == len(calls)
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in message.tool_calls]
        message, reason = ask(client, key, messages, stream=True)
        assert (message.content, reasoning_of(message)) == (ANSWER, thought)
        assert (reason, message.tool_calls or []) == ("stop", [])
        wait_until_free(cluster)


def thoughts_of(spec: Format) -> list[Thinking]:
    """The markers of thoughts as models write them; in formats of messages the turn is opened anew behind one."""
    again = "<|start|>assistant" if spec.messages else ""
    return [
        {
            "open": one.open,
            "close": one.close,
            "begin": one.open + "\n" * one.after_open,
            "end": "\n" * one.before_close + one.close + "\n" * one.after_close + again,
        }
        for one in spec.thoughts
    ]


def reasoning_of(message: Any) -> str | None:
    """A thought as the client has put it together."""
    thought: str | None = (message.model_extra or {}).get("reasoning_content")
    return thought


def ask(client: openai.OpenAI, model: str, messages: list[Any], *, stream: bool) -> tuple[Any, str | None]:
    """One turn; the message as the client puts it together, and why it ended."""
    asked: dict[str, Any] = {"model": model, "messages": messages, "tools": TOOLS, "max_tokens": 400}
    if not stream:
        choice = client.chat.completions.create(**asked).choices[0]
        return choice.message, choice.finish_reason
    with client.chat.completions.stream(**asked) as events:
        final = events.get_final_completion().choices[0]
    return final.message, final.finish_reason
