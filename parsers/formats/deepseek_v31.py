"""DeepSeek V3.1: NAME, a separator and JSON, in a section of calls."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Wire

_BEGIN, _SEP, _END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"

FORMAT = Format(
    key="deepseek_v31",
    models="DeepSeek V3.1",
    openers={"<｜tool▁calls▁begin｜>": "section", _BEGIN: "name"},
    states={
        "section": Expect((Edge(_BEGIN, "name"), Edge("<｜tool▁calls▁end｜>", END)), otherwise="end"),
        "name": Capture("name", (Edge(_SEP, "arguments"),)),
        "arguments": JsonArguments(to="close"),
        "close": Expect((Edge(_END, "section"),), otherwise="end"),
    },
    dropped=(
        "<｜tool▁outputs▁begin｜>",
        "<｜tool▁output▁begin｜>",
        "<｜tool▁output▁end｜>",
        "<｜tool▁outputs▁end｜>",
    ),
    ends=("<｜end▁of▁sentence｜>",),
    newlines=2,
    wire=Wire(
        head=_BEGIN,
        middle=_SEP,
        tail=_END,
        opening="<｜tool▁calls▁begin｜>",
        closing="<｜tool▁calls▁end｜>",
        trigger="<｜tool▁calls▁begin｜>",
        omitted="<｜tool▁calls▁begin｜>",
        result="<｜tool▁output▁begin｜>{result}<｜tool▁output▁end｜>",
    ),
    signs=(_SEP,),
)
