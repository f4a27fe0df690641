"""Tools and the choice among them, on their way to the head."""

import json
from typing import Any

import pytest

from gateway.openai.chat_request import ChatRequest, read_chat_request
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2

TOOL = {"type": "function", "function": {"name": "f"}}
OTHER = {"type": "function", "function": {"name": "g"}}


def read(**fields: Any) -> ChatRequest:
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], **fields}
    return read_chat_request(json.dumps(body).encode())


def error(**fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    return caught.value


def test_schemas_arrive_as_they_were_written() -> None:
    schema = (
        '{ "zeta": 1.0, "alpha":1e5,\n "n": 10000000000000000000000, "text": "\\u00e9 ] } \\" ü", "deep": [[{}], []] }'
    )
    body = (
        '{"model": "demo", "messages": [{"role": "user", "content": "tools: [{"}],'
        '"tools": [{"type": "shell"}, {"type": "function", "function": {"parameters": ' + schema + ', "name": "f", '
        '"description": "does", "strict": true}}, {"type":"function","function":{"name":"g","parameters":null}}]}'
    )
    generate = read_chat_request(body.encode()).generate
    assert [(tool.name, tool.description, tool.parameters_json, tool.strict) for tool in generate.tools] == [
        ("f", "does", schema, True),
        ("g", "", "", False),
    ]


def test_of_a_key_that_comes_twice_the_last_one_counts() -> None:
    body = (
        '{"model": "a", "model": "demo", "messages": [{"role": "user", "content": "x"}], "tools": "no", "tools":'
        '[{"type": "function", "function": {"name": "f", "parameters": [1], "parameters": {"a": 1}}}]}'
    )
    request = read_chat_request(body.encode())
    assert request.model == "demo"
    assert request.generate.tools[0].parameters_json == '{"a": 1}'


def test_unknown_types_are_left_out() -> None:
    tools = [
        {"type": "namespace", "tools": []},
        TOOL,
        {"type": "code_interpreter", "container": {}},
        {"type": "web_search"},
    ]
    assert [tool.name for tool in read(tools=tools, tool_choice="auto").generate.tools] == ["f"]


@pytest.mark.parametrize("tools", [None, [], [{"type": "web_search"}]])
def test_no_tools_are_no_tools(tools: Any) -> None:
    for choice in (None, "auto", "none"):
        generate = read(tools=tools, tool_choice=choice).generate
        assert not generate.tools
        assert not generate.HasField("tool_choice")


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ("x", "tools"),
        ({}, "tools"),
        ([1], "tools[0]"),
        ([{}], "tools[0].type"),
        ([{"type": 1}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([TOOL, {"type": "function", "function": {}}], "tools[1].function.name"),
        ([{"type": "function", "function": {"name": "has space"}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "x" * 65}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "x\n"}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], "tools[0].function.parameters"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], "tools[0].function.parameters"),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}],
            "tools[0].function.parameters",
        ),
        ([{"type": "function", "function": {"name": "f", "strict": "yes"}}], "tools[0].function.strict"),
        ([{"type": "function", "function": {"name": "f", "description": 1}}], "tools[0].function.description"),
    ],
)
def test_what_is_wrong_with_a_tool_is_named(tools: Any, param: str) -> None:
    assert error(tools=tools).param == param


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: Any, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ("auto", generation_pb2.TOOL_CHOICE_MODE_AUTO, []),
        ("none", generation_pb2.TOOL_CHOICE_MODE_NONE, []),
        ("required", generation_pb2.TOOL_CHOICE_MODE_REQUIRED, []),
        (named("g"), generation_pb2.TOOL_CHOICE_MODE_REQUIRED, ["g"]),
        (allowed("auto", named("f")), generation_pb2.TOOL_CHOICE_MODE_AUTO, ["f"]),
        (allowed("required", named("g"), named("f")), generation_pb2.TOOL_CHOICE_MODE_REQUIRED, ["g", "f"]),
    ],
)
def test_every_choice_reaches_the_head(choice: Any, mode: int, names: list[str]) -> None:
    generate = read(tools=[TOOL, OTHER], tool_choice=choice).generate
    assert (generate.tool_choice.mode, list(generate.tool_choice.names)) == (mode, names)
    assert len(generate.tools) == 2


def test_names_may_have_dots() -> None:
    dotted = {"type": "function", "function": {"name": "mcp.files.read-all_2"}}
    generate = read(tools=[dotted], tool_choice=named("mcp.files.read-all_2")).generate
    assert generate.tools[0].name == generate.tool_choice.names[0] == "mcp.files.read-all_2"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        (1, "tool_choice"),
        ("sometimes", "tool_choice"),
        ({}, "tool_choice.type"),
        ({"type": "magic"}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.function"),
        (named("unknown"), "tool_choice.function.name"),
        ({"type": "custom", "custom": {"name": "g"}}, "tool_choice.custom.name"),
        ({"type": "custom"}, "tool_choice.custom"),
        (allowed("maybe", named("f")), "tool_choice.allowed_tools.mode"),
        (allowed(None, named("f")), "tool_choice.allowed_tools.mode"),
        (allowed("auto"), "tool_choice.allowed_tools.tools"),
        (allowed("auto", "f"), "tool_choice.allowed_tools.tools[0]"),
        (allowed("auto", named("h")), "tool_choice.allowed_tools.tools[0].function.name"),
    ],
)
def test_what_is_wrong_with_a_choice_is_named(choice: Any, param: str) -> None:
    assert error(tools=[TOOL], tool_choice=choice).param == param


def test_required_without_tools_is_the_callers_mistake() -> None:
    assert error(tool_choice="required").code == "invalid_value"


FUNCTIONS = [{"name": "f", "parameters": {"type": "object"}}, {"name": "g"}]


def test_the_legacy_form_is_translated() -> None:
    request = read(functions=FUNCTIONS, function_call={"name": "g"})
    assert request.legacy_functions
    assert [(tool.name, tool.parameters_json) for tool in request.generate.tools] == [
        ("f", '{"type": "object"}'),
        ("g", ""),
    ]
    assert list(request.generate.tool_choice.names) == ["g"]
    assert request.generate.HasField("parallel_tool_calls")
    assert not request.generate.parallel_tool_calls
    assert error(functions=FUNCTIONS, function_call={"name": "h"}).param == "function_call.name"
    assert error(functions=FUNCTIONS, function_call=1).param == "function_call"
    assert error(functions=FUNCTIONS, tools=[TOOL]).param == "functions"


SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"b": 1.0, "a": {}}}}


def test_formats_reach_the_head() -> None:
    assert not read(response_format={"type": "text"}).generate.HasField("response_format")
    assert read(response_format={"type": "json_object"}).generate.response_format.HasField("json_object")
    assert read(response_format=SCHEMA).generate.response_format.json_schema == '{"b": 1.0, "a": {}}'
    bare = {"type": "json_schema", "json_schema": {"name": "n"}}
    assert read(response_format=bare).generate.response_format.json_schema == "{}"


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": []}}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "string"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": ["object", "null"]}}},
            "response_format.json_schema.schema",
        ),
    ],
)
def test_what_is_wrong_with_a_format_is_named(wanted: Any, param: str) -> None:
    assert error(response_format=wanted).param == param
