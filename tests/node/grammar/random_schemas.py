"""JSON schemas such as nobody would write, but anybody may send."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

PLAIN_NAMES = st.sampled_from(["a", "b", "c", "path", "file_path", "old-string", "x.y", "größe", "item", "Id9"])
NAMES = st.one_of(PLAIN_NAMES, st.sampled_from(["$id", "a b", "q\"'<", ""]), st.text(max_size=6))
_TEXTS = st.text(max_size=8)
_SMALL = st.integers(0, 4)
_PATTERNS = st.sampled_from(
    (
        *("^[a-z]+$", "^a|b$", r"\d{2,4}", "", "^$", r"^(?:\w+-)*\w+$", "[^/]", r"^\S.*\S$", "^(a|b)c?$"),
        *(r"^[\w.-]+@x\.y$", r"^.{3,5}$", "é", r"^\u0041[^\n]{0,3}$", "(?=x)y", r"(a)\1", r"\bword\b"),
    )
)
_FORMATS = st.sampled_from(
    ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
)
_NUMBERS = st.one_of(st.integers(-1000, 1000), st.floats(-1000, 1000).map(lambda value: round(value, 3)))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=4,
)


def _some(draw: st.DrawFn, keywords: dict[str, st.SearchStrategy[Any]], chance: int = 3) -> dict[str, Any]:
    """Some of the keywords."""
    return {key: draw(values) for key, values in keywords.items() if draw(_odds(chance))}


def _odds(chance: int) -> st.SearchStrategy[bool]:
    """True in one of so many cases; plain integers come to their bounds far more often than that."""
    return st.sampled_from([False] * (chance // 2) + [True] + [False] * (chance - chance // 2))


@st.composite
def _strings(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(_SMALL)
    bounds = {"minLength": st.just(low), "maxLength": st.just(low + draw(st.integers(0, 40)))}
    return {"type": "string", **_some(draw, {**bounds, "pattern": _PATTERNS, "format": _FORMATS}, 4)}


@st.composite
def _numbers(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(_NUMBERS)
    bounds: dict[str, st.SearchStrategy[Any]] = {
        draw(st.sampled_from(["minimum", "exclusiveMinimum"])): st.just(low),
        draw(st.sampled_from(["maximum", "exclusiveMaximum"])): st.just(low + draw(st.integers(1, 500))),
        "multipleOf": st.sampled_from([1, 2, 5, 10, 0.5, 0.25]),
    }
    return {"type": draw(st.sampled_from(["integer", "number"])), **_some(draw, bounds)}


@st.composite
def _arrays(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    low = draw(st.integers(0, 2))
    keywords = {
        "items": inner,
        "minItems": st.just(low),
        "maxItems": st.just(low + draw(st.integers(0, 3))),
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
    }
    found = {"type": "array", **_some(draw, keywords, 1)}
    return found | _some(draw, {"uniqueItems": st.just(True), "contains": inner}, 24)


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> dict[str, Any]:
    properties = draw(st.dictionaries(names, inner, max_size=4))
    found: dict[str, Any] = {"type": "object"}
    if properties or draw(st.booleans()):
        found["properties"] = properties
    listed = sorted(properties)
    found |= _some(
        draw,
        {
            "required": st.lists(st.sampled_from(listed) if listed else names, max_size=3, unique=True),
            "additionalProperties": st.one_of(st.booleans(), inner),
        },
        1,
    )
    rare = {
        "minProperties": st.integers(0, 2),
        "maxProperties": st.integers(1, 5),
        "propertyNames": st.one_of(_strings(), st.just({"type": "string"})),
        "patternProperties": st.dictionaries(_PATTERNS, inner, min_size=1, max_size=2),
        "dependentRequired": st.just({"a": ["b"]}),
    }
    return found | _some(draw, rare, 19)


def _combined(inner: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    reference = st.sampled_from(["one", "two"]).map(lambda name: {"$ref": f"#/$defs/{name}"})
    return st.one_of(
        several.map(lambda options: {"anyOf": options}),
        several.map(lambda options: {"anyOf": options, "description": "one of them"}),
        st.tuples(_objects(inner, names), _objects(inner, names)).map(lambda parts: {"allOf": list(parts)}),
        reference,
        reference,
        inner.map(lambda one: {**one, "nullable": True} if isinstance(one, dict) and "type" in one else one),
    )


def _rare(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"oneOf": options}),
        inner.map(lambda one: {"not": one}),
        st.tuples(inner, inner).map(lambda parts: {"if": parts[0], "then": parts[1]}),
    )


_LEAVES = st.one_of(
    _strings(),
    _numbers(),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(_VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    _VALUES.map(lambda value: {"const": value}),
    st.just({}),
    st.just(True),
    st.lists(
        st.sampled_from(["string", "integer", "null", "boolean", "array"]), min_size=1, max_size=3, unique=True
    ).map(lambda types: {"type": types}),
)


@cache
def _inner(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        objects = _objects(inner, names)
        usual = st.one_of(objects, objects, _arrays(inner), _combined(inner, names))
        return _odds(39).flatmap(lambda rare: _rare(inner) if rare else usual)

    return st.recursive(_LEAVES, grown, max_leaves=8)


@st.composite
def schemas(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> dict[str, Any]:
    """A schema of a tool's parameters, perhaps one that refers to itself."""
    inner = _inner(names)
    found = draw(_objects(inner, names))
    return {**found, "$defs": {"one": draw(inner), "two": draw(_objects(inner, names))}}
