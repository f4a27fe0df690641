"""GLM 4.7 and 5: as GLM 4.5, without line feeds."""

from dataclasses import replace

from parsers.formats import glm45

_BASE = glm45.FORMAT

FORMAT = replace(
    _BASE,
    key="glm47",
    models="GLM-4.7, GLM-5, 5.1, 5.2, 5.3",
    wire=replace(
        _BASE.wire,
        head="<tool_call>",
        middle="",
        parameter=("<arg_key>", "</arg_key><arg_value>", "</arg_value>"),
        result="<tool_response>{result}</tool_response>",
    ),
    signs=("</arg_key><arg_value>",),
)
