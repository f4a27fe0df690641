"""GigaChat 3.1: `<|function_call|>` and one JSON object."""

from dataclasses import replace

from parsers.formats import gigachat3

FORMAT = replace(
    gigachat3.FORMAT,
    key="gigachat31",
    models="GigaChat 3.1",
    wire=replace(
        gigachat3.FORMAT.wire, head='<|function_call|>{"name": "', trigger="<|function_call|>", lead=(), also=()
    ),
    signs=("<|function_call|>",),
)
