"""Which tool-call format a model speaks, and why.

In this order: what somebody set; a response template in the checkpoint; the known call, rendered with the model's own
template; the vocabulary; the model's type. A template's file name never counts, and "unknown" is an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from node.serving.detection import shapes
from node.serving.detection.probe import Probe, Quirks, Render, probe
from parsers import FORMATS, Format, get_format
from tandem.errors import InvalidRequestError

__all__ = ["Detection", "Probe", "Quirks", "Render", "detect", "probe"]

How = Literal["setting", "response template", "rendered call", "result", "instructions", "vocabulary", "model type", ""]

_MODEL_TYPES: Final = {
    "apertus": "apertus",
    "deepseek_v32": "deepseek_v32",
    "deepseek_v4": "deepseek_v4",
    "ernie4_5_moe": "ernie45",
    "gpt_oss": "gpt_oss",
    "jamba": "jamba",
    "kimi_k3": "kimi_k3",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2",
    "longcat_flash": "longcat",
    "minimax": "minimax_m1",
    "muse_spark": "muse",
    "olmo3": "olmo3",
    "plamo3": "plamo3",
    "seed_oss": "seed_oss",
    "smollm3": "hermes",
    "step3": "step3",
}
"""For checkpoints whose template says nothing: the model types that have only ever spoken one format."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The format, which of the ways found it (``""``: none), and the reason for people."""

    format: Format
    how: How
    why: str


def detect(
    probed: Probe,
    source: str,
    *,
    setting: str = "",
    response_template: Mapping[str, Any] | None = None,
    vocabulary: Collection[str] = (),
    end_of_turn: Collection[str] = (),
    model_type: str = "",
) -> Detection:
    """The format of a model.

    Args:
        probed: what its template did with the known call.
        source: of the template; empty where there is none that can be read.
        setting: the key of a format that somebody chose.
        response_template: of the tokenizer's configuration.
        vocabulary: the added tokens.
        end_of_turn: the tokens that end a turn.
        model_type: of the checkpoint's configuration.

    Raises:
        InvalidRequestError: the setting names no format.
    """
    if setting:
        if setting not in FORMATS:
            raise InvalidRequestError(f"unknown tool format {setting}; known: {', '.join(FORMATS)}")
        return Detection(get_format(setting), "setting", "it was set")
    source = "\n".join([source, *end_of_turn])
    by_call = shapes.by_call(probed.call, source) if probed.call else None
    literals = _opening_literals(response_template)
    if literals and (found := shapes.by_opening(literals, by_call)) is not None:
        return Detection(
            found, "response template", f"the checkpoint's response template opens calls with {literals[0]!r}"
        )
    if by_call is not None:
        return Detection(by_call, "rendered call", "the model's template writes a known call so")
    if probed.result and (found := shapes.by_result(probed.result, source)) is not None:
        return Detection(found, "result", "the model's template writes a known result so")
    for text, where in ((probed.instructions, "asks for calls so"), (source, "spells its markers")):
        if text and (found := shapes.by_text(text, source)) is not None:
            return Detection(found, "instructions", f"the model's template {where}")
    if (found := shapes.by_vocabulary(vocabulary)) is not None:
        marker = next(marker for marker in found.openers if marker in vocabulary)
        return Detection(found, "vocabulary", f"the vocabulary has a token {marker}")
    if model_type in _MODEL_TYPES:
        return Detection(get_format(_MODEL_TYPES[model_type]), "model type", f"the model's type is {model_type}")
    return Detection(get_format(shapes.GENERIC), "", "nothing says so: calls written as JSON are looked for")


def _opening_literals(template: Mapping[str, Any] | None) -> list[str]:
    """What opens calls in a response template of transformers 5."""
    fields = template.get("fields") if isinstance(template, Mapping) else None
    calls = fields.get("tool_calls") if isinstance(fields, Mapping) else None
    opened = calls.get("open") if isinstance(calls, Mapping) else None
    literals = [opened] if isinstance(opened, str) else opened if isinstance(opened, list) else []
    return [literal for literal in literals if isinstance(literal, str) and literal.strip()]
