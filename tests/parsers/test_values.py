"""Raw values typed by the schema, Python literals, Gemma's braces, nested elements; and what damages them."""

import json

import pytest

from parsers import Parser, ToolSpec, get_format
from parsers.events import ArgumentsDelta
from parsers.schema import ToolSchema, scalar
from parsers.transducers.raw_text import RawText
from tests.parsers.reading import TOOLS, read

QWEN = get_format("qwen3_coder")
PYTHON = get_format("pythonic")
GEMMA = get_format("gemma4")


def qwen(*parameters: tuple[str, str], name: str = "update") -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters)
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("types", "text", "expected"),
    [
        ({"integer"}, "9007199254740993", "9007199254740993"),
        ({"integer"}, "3.5", '"3.5"'),
        ({"integer"}, "3.0", "3.0"),
        ({"integer"}, "2026-01-15", '"2026-01-15"'),
        ({"integer"}, "007", "7"),
        ({"number"}, "-0.25", "-0.25"),
        ({"number"}, "1e5", "1e5"),
        ({"number"}, "NaN", '"NaN"'),
        ({"boolean"}, "True", "true"),
        ({"boolean"}, "0", "false"),
        ({"null", "integer"}, "null", "null"),
        ({"string", "integer"}, "12", "12"),
        ({"string", "integer"}, "12a", '"12a"'),
        ({"string"}, "null", '"null"'),
        ({"object"}, '{"a": 1}', '{"a": 1}'),
        ({"object"}, "{a", '"{a"'),
        (set(), "12", '"12"'),
    ],
)
def test_the_ladder(types: set[str], text: str, expected: str) -> None:
    assert scalar(text, frozenset(types)) == expected


def test_types_follow_references_and_combinations() -> None:
    schema = ToolSchema(
        json.dumps(
            {
                "properties": {
                    "a": {"$ref": "#/$defs/x~1y"},
                    "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "c": {"enum": ["x", 3]},
                    "d": {"type": "string", "nullable": True},
                    "e": {"$ref": "#/properties/e"},
                    "f": {"oneOf": [{"items": {}}, {"properties": {}}]},
                    "g": {"type": "str"},
                    "h": True,
                },
                "$defs": {"x/y": {"allOf": [{"type": ["boolean", "string"]}]}},
                "additionalProperties": {"type": "number"},
            }
        )
    )
    found = {name: set(schema.types((name,))) for name in "abcdefghz"}
    assert found == {
        "a": {"boolean", "string"},
        "b": {"integer", "null"},
        "c": {"string", "integer"},
        "d": {"string", "null"},
        "e": set(),
        "f": {"array", "object"},
        "g": {"string"},
        "h": {"array", "object", "string"},
        "z": {"number"},
    }


@pytest.mark.parametrize("broken", ["", "[]", "nonsense", '{"properties": 3}', '{"properties": {"a": 3}}', "[" * 9999])
def test_a_broken_schema_allows_everything(broken: str) -> None:
    assert ToolSchema(broken).types(("a",)) == frozenset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\nb", "a\nb"),
        ("\n\na\n\n", "\n\na\n\n"),
        ("", ""),
        ('{"looks": "like JSON"}', '{"looks": "like JSON"}'),
        ("null", "null"),
        ("02134", "02134"),
        ('print("</parameter>")', 'print("</parameter>")'),
        ("a </function> b <parameter=zzz> c </tool_call> d", "a </function> b <parameter=zzz> c </tool_call> d"),
        ("&lt;b&gt; \\n \\u0041", "&lt;b&gt; \\n \\u0041"),
    ],
)
def test_a_declared_string_stays_as_it_is(value: str, expected: str) -> None:
    for pieces in ([qwen(("text", value))], list(qwen(("text", value)))):
        (call,) = read(QWEN, pieces).calls
        assert json.loads(call[1]) == {"text": expected}


def test_containers_stream_and_python_in_them_becomes_json() -> None:
    text = qwen(("config", "{'a': True, 'b': (1, None,), \"c\": \"d'e\"}"), ("tags", "['x', 'y',]"))
    answer = read(QWEN, list(text))
    assert json.loads(answer.calls[0][1]) == {"config": {"a": True, "b": [1, None], "c": "d'e"}, "tags": ["x", "y"]}
    assert answer.warnings == []
    parser = Parser(QWEN, TOOLS)
    parser.feed('<tool_call>\n<function=update>\n<parameter=edits>\n[{"old": "')
    pieces = [f"w{number} " for number in range(50)]
    assert sum(isinstance(event, ArgumentsDelta) for piece in pieces for event in parser.feed(piece)) >= 45


@pytest.mark.parametrize(
    ("types", "kind", "text", "expected"),
    [
        (["integer"], "string", "42", "42"),
        (["object", "null"], "string", '{"a": 1}', '{"a": 1}'),
        (["string"], "string", "42", '"42"'),
        (["string", "integer"], "string", "42", '"42"'),
        (["string"], "json", "null", '"null"'),
        (["string"], "json", '"quoted"', '"quoted"'),
        (["string"], "json", '"quoted" not', '"\\"quoted\\" not"'),
        (["string", "integer"], "json", "42", "42"),
        ([], "json", "[1, {}]", "[1, {}]"),
        ([], "json", "true", "true"),
        ([], "string", "true", '"true"'),
    ],
)
def test_the_schema_decides_and_then_the_markup(types: list[str], kind: str, text: str, expected: str) -> None:
    for pieces in ([text], list(text)):
        out: list[str] = []
        value = RawText(frozenset(types), kind)
        for piece in pieces:
            value.push(piece, out)
        value.close(out)
        assert "".join(out) == expected


@pytest.mark.parametrize("types", [["string", "integer"], ["string", "array"], ["string", "boolean", "null"]])
def test_a_union_streams_as_soon_as_only_a_string_is_left(types: list[str]) -> None:
    value = RawText(frozenset(types), "")
    out: list[str] = []
    value.push("  Hello", out)
    assert "".join(out) == '"  Hello'


def test_what_the_limit_leaves_of_a_value() -> None:
    for written, left in (("12", '{"count": 12'), ("", '{"count": '), ("x", '{"count": "x')):
        text = f"<tool_call>\n<function=update>\n<parameter=count>\n{written}"
        assert read(QWEN, list(text), end="length").calls == [("update", left)]


def test_a_declared_parameter_without_a_type_is_what_it_looks_like() -> None:
    tools = [ToolSpec("f", '{"properties": {"any": {}}}')]
    for written, expected in (("[1]", [1]), ('{"a": 1}', {"a": 1}), ("12", "12"), ("[1", "[1")):
        (call,) = read(QWEN, list(qwen(("any", written), name="f")), tools=tools).calls
        assert json.loads(call[1]) == {"any": expected}


def test_a_nullable_string_streams_as_soon_as_it_is_not_null() -> None:
    assert read(QWEN, list(qwen(("note", "null")))).calls == [("update", '{"note": null}')]
    assert read(QWEN, list(qwen(("note", "nullify")))).calls == [("update", '{"note": "nullify"}')]
    parser = Parser(QWEN, TOOLS)
    parser.feed("<tool_call>\n<function=update>\n<parameter=note>\n")
    assert parser.feed("Text")


@pytest.mark.parametrize(
    ("damaged", "arguments"),
    [
        (
            "<parameter=text>\nx\n<parameter=count>\n3\n</parameter>\n</function>\n</tool_call>",
            {"text": "x", "count": 3},
        ),
        ("<parameter=text>\nx\n</function>\n</tool_call>", {"text": "x"}),
        ("<parameter=text>\nx\n</parameter>\n</tool_call>", {"text": "x"}),
        ("<parameter=text>\nx\n</parameter>\n</parameter>\n</function>\n</tool_call>", {"text": "x"}),
        ("<parameter=text>\nx\n</parameter>\n", {"text": "x"}),
        ("<parameter=text>\nx", {"text": "x"}),
        ("</tool_call>", {}),
    ],
)
def test_missing_and_doubled_closers(damaged: str, arguments: dict[str, object]) -> None:
    answer = read(QWEN, list("<tool_call>\n<function=update>\n" + damaged))
    assert [(name, json.loads(text)) for name, text in answer.calls] == [("update", arguments)]
    assert answer.content == ""


def test_two_functions_in_one_block_and_a_missing_outer_marker() -> None:
    two = "<function=ping>\n</function>\n<function=update>\n<parameter=count>\n1\n</parameter>\n</function>"
    for text in (two, f"<tool_call>\n{two}\n</tool_call>"):
        assert read(QWEN, list(text)).calls == [("ping", "{}"), ("update", '{"count": 1}')]


def test_text_inside_a_call_is_the_answer_and_the_call_goes_on() -> None:
    text = qwen(("count", "1")).replace("<parameter", "Oops. <parameter")
    answer = read(QWEN, list(text))
    assert (answer.calls, answer.content) == ([("update", '{"count": 1}')], "\nOops. ")
    assert answer.warnings == ["text inside the call"]


def test_prose_in_a_block_is_no_call() -> None:
    glm = get_format("glm45")
    text = "<tool_call>I think I should look.</tool_call>"
    assert read(glm, list(text)).content == text


def test_undeclared_parameters_are_strings() -> None:
    assert read(QWEN, qwen(("zzz", "12"))).calls == [("update", '{"zzz": "12"}')]


# Python


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("text='it\\'s', other=\"a\\x41\\u00e9\\n\"", {"text": "it's", "other": "aAé\n"}),
        ("text='''a 'b' \"c\"\nd'''", {"text": "a 'b' \"c\"\nd"}),
        ("text=r'\\d+'", {"text": "\\d+"}),
        ("text='a' 'b'", {"text": "ab"}),
        ("text=''", {"text": ""}),
        ("text='\\d'", {"text": "\\d"}),
        ("count=-3, ratio=.5", {"count": -3, "ratio": 0.5}),
        ("count=0x1F, ratio=1_000.", {"count": 31, "ratio": 1000.0}),
        ("flag=True, note=None, either=null", {"flag": True, "note": None, "either": None}),
        ("config={'a': [1, (2,)], 3: false}, tags=[]", {"config": {"a": [1, [2]], "3": False}, "tags": []}),
        ("text=12", {"text": "12"}),
        ("text='sed -n '360,450p' /x.py', count=1", {"text": "sed -n '360,450p' /x.py", "count": 1}),
        ("text='a' , other=\"it's\"", {"text": "a", "other": "it's"}),
        ("tags=[ 'a' , \"b\"\n]", {"tags": ["a", "b"]}),
        ('"positional", "two"', {"text": "positional", "other": "two"}),
        (" count = 1 , ", {"count": 1}),
    ],
)
def test_python_arguments(written: str, expected: dict[str, object]) -> None:
    for pieces in ([f"[update({written})]"], list(f"[update({written})]")):
        answer = read(PYTHON, pieces)
        assert [(name, json.loads(text)) for name, text in answer.calls] == [("update", expected)]
        assert answer.warnings == []


@pytest.mark.parametrize(
    "text", ["[1] see (there)", "[link text](url)", "[Wikipedia](https://x.org)", "[a, b]", "[]", "["]
)
def test_a_bracket_at_the_head_of_an_answer_is_an_answer(text: str) -> None:
    assert read(PYTHON, list(text)).content == text


def test_an_undeclared_python_call_counts_only_if_it_is_all() -> None:
    assert read(PYTHON, "[other(a=1)]").calls == [("other", '{"a": 1}')]
    assert read(PYTHON, "[other(a=1)] is a call").calls == []


# Gemma


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{text:<|"|>a, {b}: "c" \\n<|"|>,count:3}', {"text": 'a, {b}: "c" \\n', "count": 3}),
        (
            '{config:{a:[1,{b:<|"|>c<|"|>}],d:null},flag:true}',
            {"config": {"a": [1, {"b": "c"}], "d": None}, "flag": True},
        ),
        ("{text:12,note:Paris in spring}", {"text": "12", "note": "Paris in spring"}),
        ('{ text : <|"|><|"|> , }', {"text": ""}),
        ('{text:"JSON\'s \\"quotes\\"",count:3}', {"text": 'JSON\'s "quotes"', "count": 3}),
        ("{}", {}),
    ],
)
def test_gemma_braces(written: str, expected: dict[str, object]) -> None:
    text = f"<|tool_call>call:update{written}<tool_call|>"
    for pieces in ([text], list(text)):
        answer = read(GEMMA, pieces)
        assert [(name, json.loads(found)) for name, found in answer.calls] == [("update", expected)]
        assert (answer.content, answer.warnings) == ("", [])


@pytest.mark.parametrize("key", ["`k ", "k ", '"k '])
def test_a_key_in_which_the_text_ends_comes_out(key: str) -> None:
    text = '<|tool_call>call:update{text:<|"|>1<|"|>,' + key
    for pieces in ([text], list(text)):
        ((name, arguments),) = read(GEMMA, pieces).calls
        assert name == "update"
        assert arguments.startswith('{"text": "1", "') and "k" in arguments


# Elements


def test_an_element_may_have_a_quote_in_its_name() -> None:
    mark = "]<]minimax[>["
    schema = json.dumps({"type": "object", "additionalProperties": {"type": "integer"}})
    text = "<tool_call>\n@<invoke name='f'>@<a'b>1@</a'b>@</invoke>@<invoke name='f'>@<c>2@</c>@</invoke>"
    text += "\n@</tool_call>"
    text = mark + text.replace("@", mark).replace("'", '"')
    answer = read(get_format("minimax_m3"), [text], tools=[ToolSpec("f", schema)])
    assert [json.loads(arguments) for _, arguments in answer.calls] == [{'a"b': 1}, {"c": 2}]
    assert not answer.warnings


def test_nested_elements() -> None:
    mark = "]<]minimax[>["
    tool = ToolSpec(
        "f",
        json.dumps(
            {
                "properties": {
                    "n": {"properties": {"re": {"type": "number"}, "s": {"type": "string"}}},
                    "l": {"type": "array", "items": {"type": "integer"}},
                    "t": {"type": "string"},
                    "e": {"type": "array"},
                }
            }
        ),
    )
    text = (
        "<tool_call>\n@<invoke name='f'>@<n>@<re>1.5@</re>@<s>2@</s>@</n>@<l>@<item>1@</item>@<item>2@</item>@</l>"
        "@<t>a <b> ]<] c@</t>@<e>[]@</e>@</invoke>\n@</tool_call>"
    )
    text = mark + text.replace("@", mark).replace("'", '"')
    for pieces in ([text], list(text)):
        answer = read(get_format("minimax_m3"), pieces, tools=[tool])
        ((name, arguments),) = answer.calls
        expected = {"n": {"re": 1.5, "s": "2"}, "l": [1, 2], "t": "a <b> ]<] c", "e": []}
        assert (name, json.loads(arguments)) == ("f", expected)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("pythonic", "[update(" + "k" * 3000 + "=1)]"),
        ("pythonic", "[update(text" + " " * 3000 + "='x')]"),
        ("gemma4", "<|tool_call>call:update{" + "k" * 3000 + ":1}<tool_call|>"),
        ("gemma4", "<|tool_call>call:" + "k" * 3000 + "{}<tool_call|>"),
        ("hermes", '<tool_call>{"' + "k" * 3000 + '": 1, "name": "ping"}</tool_call>'),
        (
            "qwen3_coder",
            "<tool_call><function=update><parameter=" + "k" * 3000 + ">1</parameter></function></tool_call>",
        ),
        ("gpt_oss", "<|channel|>" + "k" * 3000 + "<|message|>x"),
        ("glm47", "<tool_call>" + "k" * 3000 + "<arg_key>text</arg_key><arg_value>x</arg_value></tool_call>"),
    ],
)
def test_limits_fall_at_the_same_place_however_the_text_is_cut(key: str, text: str) -> None:
    spec = get_format(key)
    whole = read(spec, text)
    for size in (1, 7, 1000):
        assert read(spec, [text[at : at + size] for at in range(0, len(text), size)]) == whole
