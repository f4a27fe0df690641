"""Kimi K3 (XTML): every tag between `<|open|>` or `<|close|>` and `<|sep|>`; parameters say their type."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Thought, Wire

_O, _C, _S = "<|open|>", "<|close|>", "<|sep|>"

FORMAT = Format(
    key="kimi_k3",
    models="Kimi-K3",
    openers={f"{_O}tools{_S}": "call", f'{_O}call tool="': "name"},
    states={
        "call": Expect((Edge(f'{_O}call tool="', "name"), Edge(f"{_C}tools{_S}", END)), otherwise="end"),
        "name": Capture("name", (Edge('"', "rest"),), escaped=True),
        "rest": Capture("drop", (Edge(_S, "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge(f'{_O}argument key="', "key"),
                Edge(f"{_C}call{_S}", "call", do="finish"),
                Edge(f"{_C}tools{_S}", END),
            )
        ),
        "key": Capture("key", (Edge('" type="string"' + _S, "value", kind="string"), Edge('"', "kind")), escaped=True),
        "kind": Capture("drop", (Edge(_S, "value", kind="json"),)),
        "value": RawValue((Edge(f"{_C}argument{_S}", "parameters"), Edge(f"{_C}call{_S}", "parameters", keep=True))),
    },
    thoughts=(Thought(f"{_O}think{_S}", f"{_C}think{_S}"),),
    dropped=(
        f"{_O}response{_S}",
        f"{_C}response{_S}",
        f"{_O} response {_S}",
        f"{_C} response {_S}",
        f"{_C}message{_S}",
    ),
    ends=("<|end_of_msg|>", "[EOS]"),
    wire=Wire(
        head=f'{_O}call tool="',
        middle=f'" index="{{index}}"{_S}',
        tail=f"{_C}call{_S}",
        opening=f"{_O}tools{_S}",
        closing=f"{_C}tools{_S}",
        style="parameters",
        parameter=(f'{_O}argument key="', f'" type="{{type}}"{_S}', f"{_C}argument{_S}"),
        trigger=f"{_O}tools{_S}",
        omitted=f"{_O}tools{_S}",
        lead=(f"{_C}response{_S}", f"{_O}response{_S}{_C}response{_S}"),
        answer=(f"{_O}response{_S}", f"{_C}response{_S}"),
    ),
    signs=(f"{_O}tools{_S}",),
)
