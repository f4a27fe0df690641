"""Continuing text."""

from typing import Any

import pytest
from gateway_harness import Gateway
from scripted_cluster import ScriptedNode, accepted, content, finished, logprobs_of, reasoning, say

from tandem.v1 import generation_pb2

PATH = "/v1/completions"


async def complete(gateway: Gateway, **fields: Any) -> Any:
    status, answer, _ = await gateway.post(PATH, {"model": "demo", "prompt": "Once", **fields})
    assert status == 200, answer
    return answer


async def test_a_plain_answer_has_every_required_member(gateway: Gateway, head: ScriptedNode) -> None:
    answer = await complete(gateway)
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"] == [{"index": 0, "text": "Hello there.", "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"]["total_tokens"] == 18
    assert head.request.max_tokens == 16
    assert not head.request.sampling.logprobs


async def test_a_stream_adds_up_to_the_plain_answer(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(reasoning("<think>"), content("a"), finished(generation_pb2.FINISH_REASON_LENGTH))
    body = {"model": "demo", "prompt": ["x", "y"], "n": 2, "echo": True, "stream_options": {"include_usage": True}}
    events = await gateway.events(PATH, body)
    assert events.pop() == "[DONE]"
    usage = events.pop()
    assert usage["choices"] == []
    assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (22, 28)
    plain = await complete(gateway, prompt=["x", "y"], n=2, echo=True)
    assert plain["usage"] == usage["usage"]
    for choice in plain["choices"]:
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in own) == choice["text"]
        assert [part["finish_reason"] for part in own if part["finish_reason"]] == ["length"]
    assert [choice["text"] for choice in plain["choices"]] == ["x<think>a", "x<think>a", "y<think>a", "y<think>a"]


async def test_choices_of_one_prompt_draw_differently(gateway: Gateway, head: ScriptedNode) -> None:
    await complete(gateway, prompt=["a", "b"], n=2, seed=3)
    found = sorted((request.text, request.choice_index, request.sampling.seed) for request in head.requests)
    assert found == [("a", 0, 3), ("a", 1, 3), ("b", 0, 3), ("b", 1, 3)]


async def test_the_best_of_several_are_shown_best_first(gateway: Gateway, head: ScriptedNode) -> None:
    async def script(request: generation_pb2.GenerateRequest):
        quality = [-3.0, -1.0, -2.0, -0.5][request.choice_index]
        token = logprobs_of(1, (1, b"x", quality))
        yield [accepted()]
        yield [content(f"choice {request.choice_index}", 1, logprobs=[token])]
        yield [finished()]

    head.script = script
    answer = await complete(gateway, n=2, best_of=4)
    assert [choice["text"] for choice in answer["choices"]] == ["choice 3", "choice 1"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert all(choice["logprobs"] is None for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] == 28
    assert answer["usage"]["prompt_tokens"] == 11


async def test_logprobs_say_where_each_token_begins(gateway: Gateway, head: ScriptedNode) -> None:
    first = logprobs_of(5, (7, b"No", -0.25), (5, b"Yes", -1.0), (9, b"Maybe", -3.0))
    second = logprobs_of(6, (6, b" sir", -0.125))
    nowhere = generation_pb2.TokenLogprobs(logprob=float("-inf"))
    head.script = say(
        content("Yes", 5, logprobs=[first]),
        generation_pb2.GenerationEvent(held=generation_pb2.Held(), token_ids=[6], logprobs=[second]),
        content(" sir!", 8, logprobs=[nowhere]),
    )
    wanted = {
        "tokens": ["Yes", " sir", "token_id:8"],
        "token_logprobs": [-1.0, -0.125, -9999.0],
        "top_logprobs": [{"No": -0.25, "Yes": -1.0}, {" sir": -0.125}, {"token_id:8": -9999.0}],
        "text_offset": [0, 3, 7],
    }
    assert (await complete(gateway, logprobs=1))["choices"][0]["logprobs"] == wanted
    events = (await gateway.events(PATH, {"model": "demo", "prompt": "x", "logprobs": 1}))[:-1]
    parts = [event["choices"][0]["logprobs"] for event in events if event["choices"][0]["logprobs"]]
    assert {name: [item for part in parts for item in part[name]] for name in wanted} == wanted


async def test_without_new_tokens_the_prompt_is_counted_and_given_back(gateway: Gateway, head: ScriptedNode) -> None:
    prompts = ["one two", "three"]
    for echo in (True, False):
        texts = prompts if echo else ["", ""]
        body = {"prompt": prompts, "max_tokens": 0, "echo": echo}
        answer = await complete(gateway, **body)
        assert [choice["text"] for choice in answer["choices"]] == texts
        assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 3
        events = await gateway.events(PATH, {"model": "demo", **body, "stream_options": {"include_usage": True}})
        assert events[-2]["usage"] == answer["usage"]
        for index, text in enumerate(texts):
            own = [choice for event in events[:-1] for choice in event["choices"] if choice["index"] == index]
            assert ("".join(part["text"] for part in own), own[-1]["finish_reason"]) == (text, "length")
    assert head.requests == []


async def test_a_prompt_that_cannot_be_counted_is_refused(gateway: Gateway) -> None:
    for stream in (False, True):
        body = {"model": "demo", "prompt": "refuse", "max_tokens": 0, "stream": stream}
        status, answer, _ = await gateway.post(PATH, body)
        assert (status, answer["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": [1, "a"]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [[1], [True]]}, "prompt[1][0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [2**32]}, "prompt[0]"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"prompt": ["x"] * 33, "n": 2}, "prompt"),
        ({"n": 17}, "n"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 21}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"echo": True, "prompt": [1]}, "echo"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"suffix": "end"}, "suffix"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
async def test_what_is_wrong_is_named(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    status, answer, _ = await gateway.post(PATH, {"model": "demo", "prompt": "x", **fields})
    assert (status, answer["error"]["param"]) == (400, param), answer
