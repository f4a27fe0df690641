import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parents[2] / "scripts"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

import make_model as maker  # noqa: E402

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny() -> dict[str, dict[str, Any]]:
    """The tiny configurations by model type."""
    return maker.configurations()


@pytest.fixture
def model_folder(tmp_path: Path, tiny: dict[str, dict[str, Any]]) -> MakeFolder:
    """Makes a model folder: ``model_folder("llama", shards=3)``; no tokenizer in it."""

    def make(architecture: str, *, shards: int = 3, seed: int = 0, dtype: str = "float32") -> Path:
        folder = tmp_path / f"{architecture}-{shards}-{seed}-{dtype}"
        maker.make_model(tiny[architecture], folder, seed=seed, shards=shards, dtype=dtype)
        return folder

    return make
