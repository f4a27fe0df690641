import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.engine import admission
from tandem.errors import UnsupportedModelError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Read the file anew in every test, and after it."""

    def forget() -> None:
        admission._data.cache_clear()
        admission._stale.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "admitted.json"
    monkeypatch.setattr(admission, "ADMITTED_FILE", file)
    return file


def test_the_proven_are_admitted() -> None:
    assert admission.is_admitted("llama")
    admission.require_admitted("gemma3n")
    assert admission.can_batch("qwen3_next")


def test_others_are_refused_by_name() -> None:
    assert not admission.is_admitted("klingon")
    with pytest.raises(UnsupportedModelError, match="klingon runs on one node only: no proof"):
        admission.require_admitted("klingon")
    assert admission.can_batch("klingon")


def write(file: Path, **versions: str) -> None:
    data = {
        "versions": versions,
        "admitted": {"llama": {"layers": 6, "batches": True}, "odd": {"layers": 2, "batches": False}},
        "refused": {"loopy": "the model never calls its layers"},
    }
    file.write_text(json.dumps(data), "utf-8")


def test_a_refusal_gives_its_reason(data: Path) -> None:
    write(data)
    admission.require_admitted("odd")
    assert not admission.can_batch("odd")
    with pytest.raises(UnsupportedModelError, match="loopy runs on one node only: the model never calls its layers"):
        admission.require_admitted("loopy")


def test_a_proof_with_other_versions_is_none(data: Path) -> None:
    write(data, mlx="0.0.1")
    assert not admission.is_admitted("llama")
    with pytest.raises(UnsupportedModelError, match=r"proven with mlx 0\.0\.1, but mlx \d"):
        admission.require_admitted("llama")
