"""DeepSeek V3 and R1: the word `function`, a separator, NAME, and JSON in a code fence; spellings drift."""

from dataclasses import replace

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Wire

_BEGIN, _SEP, _END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"

_SPELLINGS = (
    "<｜tool_calls_begin｜>",
    "<｜tool calls begin｜>",
    "<｜tool\\_calls\\_begin｜>",
    "<｜tool▁calls｜>",
)
_WIRE = Wire(
    head=_BEGIN + "function" + _SEP,
    middle="\n```json\n",
    tail="\n```" + _END,
    opening="<｜tool▁calls▁begin｜>",
    closing="<｜tool▁calls▁end｜>",
    separator="\n",
    trigger="<｜tool▁calls▁begin｜>",
    omitted="<｜tool▁calls▁begin｜>",
    result="<｜tool▁output▁begin｜>{result}<｜tool▁output▁end｜>",
)

FORMAT = Format(
    key="deepseek_v3",
    models="DeepSeek V3, V3-0324, R1, R1-0528, R1 distills, Cogito",
    openers={
        "<｜tool▁calls▁begin｜>": "section",
        **dict.fromkeys(_SPELLINGS, "section"),
        _BEGIN: "kind",
    },
    states={
        "section": Expect(
            (
                Edge(_BEGIN, "kind"),
                Edge("<｜tool▁calls▁end｜>", END),
                Edge("function" + _SEP, "name"),
            ),
            otherwise="end",
        ),
        "kind": Expect((Edge("function" + _SEP, "name"),)),
        "name": Capture("name", (Edge("\n", "fence"), Edge("```", "fence", keep=True))),
        "fence": Expect((Edge("```json", "arguments"), Edge("```", "arguments"), Edge("", "arguments"))),
        "arguments": JsonArguments(to="close"),
        "close": Expect((Edge("```", "closed"), Edge(_END, "section")), otherwise="end"),
        "closed": Expect((Edge(_END, "section"),), otherwise="end"),
    },
    dropped=(
        "<｜tool▁outputs▁begin｜>",
        "<｜tool▁output▁begin｜>",
        "<｜tool▁output▁end｜>",
        "<｜tool▁outputs▁end｜>",
    ),
    ends=("<｜end▁of▁sentence｜>",),
    newlines=2,
    fenced=True,
    wire=replace(_WIRE, also=tuple(replace(_WIRE, opening=one, omitted="", trigger=one) for one in _SPELLINGS)),
    signs=(_SEP, "```json"),
)
