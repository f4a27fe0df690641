"""ERNIE 4.5 Thinking: Hermes' calls; the answer stands between `<response>` tags."""

from dataclasses import replace

from parsers.formats import hermes

FORMAT = replace(
    hermes.FORMAT,
    key="ernie45",
    models="ERNIE-4.5-Thinking",
    dropped=("<response>\n", "\n</response>\n", "<response>", "</response>"),
    ends=("<|im_end|>", "</s>"),
    wire=replace(
        hermes.FORMAT.wire,
        tail="}\n</tool_call>\n",
        answer=("<response>\n", "\n</response>\n"),
        result="<tool_output>\n{result}\n</tool_output>",
    ),
)
