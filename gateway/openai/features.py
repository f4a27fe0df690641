"""What the nodes can guarantee about the shape of an answer: one place to switch it on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Features:
    """Guarantees that need decoding under a grammar. What is off is refused with a 400 that says so.

    The requests for all of them are complete: switching one on sends it to the head as it is.
    """

    required: bool = False
    named: bool = False
    allowed_tools: bool = False
    json_object: bool = False
    json_schema: bool = False
