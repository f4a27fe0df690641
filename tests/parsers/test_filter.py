"""`python -m parsers`, as a process: one line in, one line out."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALL = '<tool_call>\n{"name": "ping", "arguments": {"a": 1}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}]


def run(lines: list[str], *options: str) -> list[dict[str, object]]:
    # -S: nothing that is installed can be imported.
    command = [sys.executable, "-S", "-m", "parsers", *options]
    given = "\n".join(lines).encode("utf-8", "surrogateescape")
    done = subprocess.run(command, input=given, capture_output=True, cwd=ROOT, timeout=60)
    assert done.stderr == b""
    assert done.stdout.isascii()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_text_chunks_and_pieces_give_one_answer_and_bad_lines_only_their_error() -> None:
    base = {"format": "hermes", "tools": TOOLS}
    lines = [
        json.dumps({**base, "text": "Ça va. " + CALL}),
        json.dumps({**base, "chunks": list("Ça va. " + CALL)}),
        json.dumps({**base, "pieces": [["Ça va. ", 1, False], ["<tool_call>", 2, True], [CALL[11:], None, False]]}),
        '"\udcff"',
        json.dumps({"format": "nobody", "text": ""}),
        json.dumps({"format": "nobody", "family": "hermes", "tools": TOOLS, "text": CALL}),
        json.dumps({**base, "tools": [], "text": CALL}),
        json.dumps({**base, "text": "so</think>done", "initial": "reasoning"}),
        json.dumps({**base, "text": "so</think>done", "prompt_suffix": "<|im_start|>assistant\n<think>\n"}),
        json.dumps({**base, "text": "cut", "end": "length"}),
    ]
    answers = run(lines)
    call = {"name": "ping", "arguments": '{"a": 1}'}
    expected = {"content": "Ça va. ", "reasoning": "", "calls": [call], "finish": "tool_calls", "warnings": []}
    assert answers[:3] == [expected] * 3
    assert ["error" in answer for answer in answers] == [False] * 3 + [True] * 2 + [False] * 5
    assert answers[5]["calls"] == [call]
    assert (answers[6]["content"], answers[6]["finish"]) == (CALL, "stop")
    assert [(answer["reasoning"], answer["content"]) for answer in answers[7:9]] == [("so", "done")] * 2
    assert answers[9]["finish"] == "length"


def test_events_say_after_which_piece_they_came() -> None:
    pieces = ["Hi. ", "<tool_call>", '{"name": "ping", "arguments": {', '"a": 1', "}}", "</tool_call>"]
    (answer,) = run([json.dumps({"format": "hermes", "tools": TOOLS, "chunks": pieces})], "--events")
    assert answer["events"] == [
        {"at": 0, "type": "content", "text": "Hi. "},
        {"at": 2, "type": "call_start", "index": 0, "name": "ping"},
        {"at": 2, "type": "arguments", "index": 0, "text": "{"},
        {"at": 3, "type": "arguments", "index": 0, "text": '"a": 1'},
        {"at": 4, "type": "arguments", "index": 0, "text": "}"},
        {"at": 4, "type": "call_end", "index": 0, "text": '{"a": 1}'},
        {"at": 5, "type": "finish", "text": "tool_calls"},
    ]


UGLY = [
    "",
    "{",
    "[]",
    "3",
    "null",
    "[" * 100_000,
    '{"format": ["hermes"], "text": ""}',
    '{"format": "nobody", "family": "nobody", "text": ""}',
    '{"format": "hermes"}',
    '{"format": "hermes", "text": 5}',
    '{"format": "hermes", "chunks": "abc"}',
    '{"format": "hermes", "chunks": [1]}',
    '{"format": "hermes", "pieces": [["a", 1]]}',
    '{"format": "hermes", "tools": 5, "text": "a"}',
    '{"format": "hermes", "tools": [{"no": "name"}], "text": "a"}',
    '{"format": "hermes", "text": "a", "initial": "thinking"}',
    '{"format": "hermes", "text": "a", "end": []}',
]


def test_each_bad_line_gets_its_error_and_the_rest_goes_on() -> None:
    good = json.dumps({"format": "hermes", "text": "\ud83c ok"})
    lines = [line for ugly in UGLY for line in (ugly, good)]
    answers = run(lines)
    assert len(answers) == len(lines)
    for bad, fine in zip(answers[::2], answers[1::2], strict=True):
        assert list(bad) == ["error"] and bad["error"]
        assert fine["content"] == "\ud83c ok"


def test_warnings_are_events_before_the_end_of_their_call() -> None:
    text = '<tool_call>\n{"name": "nope", "arguments": {}}\n</tool_call>'
    (answer,) = run([json.dumps({"format": "hermes", "tools": TOOLS, "text": text})], "--events")
    events = answer["events"]
    assert isinstance(events, list)
    assert [event["type"] for event in events] == ["call_start", "arguments", "warning", "call_end", "finish"]
    assert (events[2]["index"], events[2]["text"]) == (0, "the tool 'nope' is not declared")


def test_a_piece_that_is_one_token_shows_that_the_vocabulary_has_it() -> None:
    call = '{"name": "ping", "arguments": {}}'
    pieces = [["Write <tool_", 1, False], ["call>. ", 2, False], ["<tool_call>", 3, True], [call, 4, False]]
    (answer,) = run([json.dumps({"format": "hermes", "tools": TOOLS, "pieces": pieces})])
    assert answer["content"] == "Write <tool_call>. "
    assert answer["calls"] == [{"name": "ping", "arguments": "{}"}]
