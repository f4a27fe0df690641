"""The requests that score the model are disjoint from training, and the proof of it can fail."""

import json

import evaluate_demo_model as evaluation
from demo_model import split
from demo_model.cases import DRAWN, Case, generated, given, handwritten, problems, used
from demo_model.dialogues import document
from demo_model.results import answer, answer_to
from demo_model.split import Source
from hypothesis import given as property_of
from hypothesis import strategies as st

COUNTS = {"one": 12, "several": 8, "result": 8, "none": 8}


def case(**changes):
    tool = {"name": "tide_table", "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}}}
    call = {"name": "tide_table", "arguments": {"harbour": "Harwich"}}
    plain = {
        "id": "x",
        "kind": "one",
        "tools": [tool],
        "messages": [{"role": "user", "content": "When is high water in Harwich"}],
        "calls": [call],
        "uses": [],
    }
    return Case(**{**plain, **changes})


def test_there_are_as_many_cases_as_promised():
    by_hand = handwritten()
    assert len(by_hand) >= 100
    assert {c.kind for c in by_hand} == {"one", "several", "result", "none"}
    assert sum(evaluation.COUNTS.values()) + len(by_hand) >= 500
    made = generated(COUNTS)
    assert {k: sum(c.kind == k for c in made) for k in COUNTS} == COUNTS


def test_cases_are_disjoint_from_training():
    assert problems(generated(COUNTS), 300) == []
    assert problems(handwritten(), 300) == []


def test_the_proof_sees_a_tool_of_training():
    assert any(
        "get_weather" in p
        for p in problems([case(tools=[{"name": "get_weather", "parameters": {"properties": {}}}])], 0)
    )


def test_the_proof_sees_a_value_of_training():
    call = {"name": "tide_table", "arguments": {"harbour": "Paris"}}
    assert any("Paris".casefold() in p for p in problems([case(calls=[call])], 0))


def test_the_proof_sees_a_phrasing_of_training():
    def as_drawn():
        r = Source(4_000_000)
        while True:
            doc = document(r, r.choice(DRAWN))
            yield from ((doc, turns) for turns in doc.branches)

    doc, turns = next((d, b) for d, b in as_drawn() if b[1].get("tool_calls") and len(b[0]["content"]) > 60)
    tools, calls = ([s["function"] for s in doc.schemas], [c["function"] for c in turns[1]["tool_calls"]])
    stolen = case(tools=tools, calls=calls, messages=turns[:1])
    assert any("phrasing drawn in training" in p for p in problems([stolen], 50))


def test_both_sides_of_the_split_keep_to_themselves():
    for held in (False, True):
        r = Source(3, held=held)
        for _ in range(30):
            doc = document(r)
            tools = [s["function"] for s in doc.schemas]
            for turns in doc.branches:
                for message in turns:
                    if calls := [c["function"] for c in message.get("tool_calls") or []]:
                        values = given(Case("", "one", tools, [], calls, []))
                        assert all(split.held_out(v) is held for v in values), values


def test_right_answers_to_results_pass_and_wrong_ones_do_not():
    for made in generated({"result": 20}):
        results = [m["content"] for m in made.messages if m["role"] == "tool"]
        told = " ".join(answer_to(_parsed(r)) for r in results)
        assert evaluation.right(made, {"content": told}), (told, made.uses)
        if made.uses:
            assert not evaluation.right(made, {"content": "Nothing."})


def test_calls_count_by_name_and_all_arguments_in_any_order():
    def call(name, **arguments):
        return {"function": {"name": name, "arguments": json.dumps(arguments)}}

    two = case(kind="several", calls=[{"name": "f", "arguments": {"a": 2}}, {"name": "g", "arguments": {}}])
    assert evaluation.right(two, {"tool_calls": [call("g"), call("f", a=2.0)]})
    assert not evaluation.right(two, {"tool_calls": [call("f", a=2)]})
    assert not evaluation.right(two, {"tool_calls": [call("g"), call("f", a=3)]})
    assert not evaluation.right(two, {"tool_calls": [call("g", b=1), call("f", a=2)]})
    assert not evaluation.right(case(), {"tool_calls": [{"function": {"name": "tide_table", "arguments": "{"}}]})
    assert evaluation.canonical("f", {"a": True}) != evaluation.canonical("f", {"a": 1})
    none = case(kind="none", calls=[])
    assert evaluation.right(none, {"content": "No."})
    assert not evaluation.right(none, {"content": None, "tool_calls": [call("f")]})


@property_of(
    st.dictionaries(
        st.text(st.characters(categories=["L"]), min_size=1, max_size=8),
        st.integers() | st.text("abc xyz", min_size=1).map(str.strip).filter(bool),
        min_size=1,
        max_size=4,
    )
)
def test_an_answer_says_every_value_of_a_result(result):
    if "error" in result:
        return
    assert all(value.casefold() in answer(result).casefold() for value in used(json.dumps(result)))


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text
