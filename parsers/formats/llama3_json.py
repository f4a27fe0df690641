"""Llama 3.1 to 3.3: a bare JSON object with `parameters`, or one behind `<|python_tag|>`."""

from parsers.format import Edge, Expect, Format, JsonCall, Wire

_TAG = "<|python_tag|>"

FORMAT = Format(
    key="llama3_json",
    models="Llama 3.1, 3.2, 3.3, Llama 4 with the JSON template",
    openers={_TAG: "first"},
    bare="first",
    states={
        "first": Expect((Edge("[", "object"), Edge("{", "object", keep=True))),
        "object": JsonCall(to="next"),
        "next": Expect(
            (
                Edge(";", "object"),
                Edge(",", "object"),
                Edge("{", "object", keep=True),
                Edge(_TAG, "first"),
                Edge("]", "behind"),
            ),
            otherwise="end",
        ),
        "behind": Expect((Edge(_TAG, "first"),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|eom_id|>", "<|eot_id|>", "<|end_of_text|>"),
    wire=Wire(
        head='{"name": "',
        middle='", "parameters": ',
        tail="}",
        separator="; ",
        trigger='{"name": "',
        lead=(_TAG,),
    ),
    signs=('{"name": "', '"parameters": '),
)
