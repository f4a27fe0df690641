"""mlx-lm's own loading of a model of which only some files, or none, are here."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from node.engine.cutting import ghost
from node.engine.headers import Headers
from tandem.errors import CheckpointError, UnsupportedModelError

# As mx.load reads them.
_DTYPES = {
    "F64": mx.float32, "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "F8_E4M3": mx.uint8,
    "F8_E5M2": mx.uint8, "F8_E8M0": mx.uint8, "I64": mx.int64, "U64": mx.uint64, "I32": mx.int32, "U32": mx.uint32,
    "I16": mx.int16, "U16": mx.uint16, "I8": mx.int8, "U8": mx.uint8, "BOOL": mx.bool_, "C64": mx.complex64,
}  # fmt: skip
_SETTINGS = ("config.json", "generation_config.json", "hf_quant_config.json")


def build_model(
    folder: Path, files: Sequence[str], headers: Headers, tensors: dict[str, mx.array]
) -> tuple[nn.Module, dict[str, Any]]:
    """Load lazily and strictly from the given files of the folder, with a ghost for each tensor of the others.

    Renaming, stacking, dequantising and quantising then see a complete checkpoint. ``tensors`` is filled with what
    they start from: the tensors and ghosts by their names in the checkpoint.

    Raises:
        CheckpointError: the tensors do not make this model.
        UnsupportedModelError: mlx-lm does not know the architecture; names it.
    """
    from mlx_lm.utils import load_model

    find_classes = inspect.signature(load_model).parameters["get_model_classes"].default
    model_type = model_type_of(folder)

    def classes(config: dict[str, Any]) -> tuple[type, type]:
        try:
            cls, arguments = find_classes(config)
        except ValueError as error:
            raise UnsupportedModelError(f"mlx-lm knows no architecture named {model_type}") from error

        def sanitize(model: Any, weights: dict[str, mx.array]) -> Any:
            for name, tensor in headers.tensors.items():
                if name not in weights:
                    weights[name] = ghost(tensor.shape, _DTYPES[tensor.dtype])
            tensors.update(weights)
            return cls.sanitize(model, weights) if hasattr(cls, "sanitize") else weights

        return type(cls.__name__, (cls,), {"sanitize": sanitize, "__module__": cls.__module__}), arguments

    with _view(folder, files) as view:
        try:
            model, config = load_model(view, lazy=True, strict=True, get_model_classes=classes)
        except UnsupportedModelError:
            raise
        except Exception as error:  # whatever the model's own code raises
            raise CheckpointError(f"{folder} does not make a {model_type}: {brief(error)}") from error
        finally:
            # Modules begin with random parameters. Their keys are one lazy chain, which nothing evaluates and which
            # would grow with every model: a seed begins another. Our own draws name their keys.
            mx.random.seed(0)
    model.__class__ = type(model).__mro__[1]  # ours holds on to the tensors
    return model, config


def model_type_of(folder: Path) -> str:
    """The architecture that ``config.json`` names. Raises CheckpointError when there is none to read."""
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_text("utf-8"))["model_type"])
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or names no model_type: {error!r}") from error


def brief(error: BaseException, limit: int = 300) -> str:
    """Type and text of an error in one line, cut off where it gets long."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= limit else f"{text[:limit]}…"


@contextmanager
def _view(folder: Path, files: Sequence[str]) -> Iterator[Path]:
    """A folder that shows only the settings and these weight files: mlx-lm opens all that it finds."""
    with tempfile.TemporaryDirectory(prefix="tandem-") as name:
        view = Path(name)
        for file in [*_SETTINGS, *files]:
            if (folder / file).exists():
                (view / file).symlink_to((folder / file).resolve())
        if not files:
            (view / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        yield view
