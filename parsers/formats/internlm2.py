"""InternLM 2 and Intern-S1: a JSON object with `parameters` between action markers."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="internlm2",
    models="InternLM2, InternLM2.5, Intern-S1",
    openers={"<|action_start|>": "kind"},
    states={
        "kind": Expect((Edge("<|plugin|>", "object"), Edge("<|action_end|>", END))),
        "object": JsonCall(to="close"),
        "close": Expect((Edge("<|action_end|>", END),), otherwise="end"),
    },
    ends=("<|im_end|>", "</s>"),
    wire=Wire(
        head='<|action_start|><|plugin|>\n{"name": "',
        middle='", "parameters": ',
        tail="}<|action_end|>",
        separator="\n",
        trigger="<|action_start|>",
    ),
    signs=("<|action_start|>",),
)
