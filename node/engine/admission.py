"""Which architectures may be cut: those that ``scripts/admit_architectures.py`` has proven, and wrote down."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tandem.errors import UnsupportedModelError

ADMITTED_FILE = Path(__file__).with_name("admitted.json")


def is_admitted(model_type: str) -> bool:
    """Whether models of that type may run on more than one node."""
    return model_type in _data()["admitted"] and not _stale()


def can_batch(model_type: str) -> bool:
    """Whether several sequences of such a model may share a step.

    Where nothing is proven, the caches themselves decide: see ``ModelStage.batchable``.
    """
    entry = _data()["admitted"].get(model_type)
    return entry is None or bool(entry["batches"])


def require_admitted(model_type: str) -> None:
    """Raise UnsupportedModelError, naming the architecture and the reason, unless it may run on more than one node."""
    if is_admitted(model_type):
        return
    data = _data()
    reason = data["refused"].get(model_type) or "no proof that its parts compute what the whole does"
    if model_type in data["admitted"]:
        reason = f"proven with {_words(data['versions'])}, but {_words(_installed())} is installed"
    raise UnsupportedModelError(f"{model_type} runs on one node only: {reason}")


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(ADMITTED_FILE.read_text("utf-8"))
    return data


def _installed() -> dict[str, str]:
    return {name: version(name) for name in _data()["versions"]}


@cache
def _stale() -> bool:
    return bool(_data()["versions"] != _installed())


def _words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
