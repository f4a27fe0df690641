"""What a checkpoint holds and where, from the headers of its safetensors files alone."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from tandem.errors import CheckpointError

WEIGHT_FILES = "model*.safetensors"  # what mlx-lm reads
INDEX_FILE = "model.safetensors.index.json"
_LARGEST_HEADER = 256 * 1024 * 1024
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "I64": 64,
    "U64": 64, "I32": 32, "U32": 32, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a checkpoint: safetensors' name of its dtype, its shape, and the file that holds it."""

    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * _BITS[self.dtype] // 8


@dataclass(frozen=True)
class Headers:
    """Every tensor of a checkpoint by name."""

    tensors: Mapping[str, TensorHeader]

    @cached_property
    def files(self) -> dict[str, int]:
        """The weight files and the bytes of their tensors."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.file] = sizes.get(tensor.file, 0) + tensor.nbytes
        return sizes

    def of_file(self, file: str) -> dict[str, TensorHeader]:
        """The tensors that the file holds."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor.file == file}

    def merged(self, other: Headers) -> Headers:
        """Both together; for what both know, the other's word counts."""
        return Headers({**self.tensors, **other.tensors})

    def dump(self) -> bytes:
        """Compressed text to keep or to send: about 10 bytes per tensor."""
        rows = [[name, t.dtype, list(t.shape), t.file] for name, t in self.tensors.items()]
        return zlib.compress(json.dumps(rows, separators=(",", ":")).encode())

    @classmethod
    def load(cls, dumped: bytes) -> Headers:
        """The headers that ``dump`` wrote. Raises CheckpointError when the bytes are no such thing."""
        try:
            rows = json.loads(zlib.decompress(dumped))
            return cls({name: TensorHeader(dtype, tuple(shape), file) for name, dtype, shape, file in rows})
        except (zlib.error, ValueError, TypeError) as error:
            raise CheckpointError(f"the headers of the checkpoint are damaged: {error}") from error


def parse_header(file: str, text: bytes | str) -> tuple[dict[str, TensorHeader], int]:
    """The tensors that a safetensors header lists, and the bytes of data that must follow it.

    Args:
        file: the name to give to the file, in the result and in errors.
        text: the JSON of the header, without the eight bytes of its length.

    Raises:
        CheckpointError: the header is damaged; names the file.
    """
    try:
        entries: dict[str, dict[str, Any]] = json.loads(text)
        tensors, end, total = {}, 0, 0
        for name, entry in entries.items():
            if name == "__metadata__":
                continue
            tensors[name] = TensorHeader(entry["dtype"], tuple(int(size) for size in entry["shape"]), file)
            first, last = entry["data_offsets"]
            if last - first != tensors[name].nbytes:
                raise CheckpointError(f"{file} is damaged: the size of {name} does not fit its shape")
            end, total = max(end, last), total + last - first
        if end != total:
            raise CheckpointError(f"{file} is damaged: its tensors overlap or leave gaps")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is damaged: its header cannot be read ({error!r})") from error
    return tensors, end


def read_header(path: Path) -> dict[str, TensorHeader]:
    """The tensors of one local file, after a check that it is as long as its header says.

    Raises:
        CheckpointError: the file is missing or damaged; names it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise CheckpointError(f"{path} is damaged: it is no safetensors file, or was cut off")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    tensors, data = parse_header(path.name, text)
    if (surplus := size - 8 - length - data) != 0:
        raise CheckpointError(f"{path} is damaged: {abs(surplus):,} bytes too {'many' if surplus > 0 else 'few'}")
    return tensors


def read_headers(folder: Path) -> Headers:
    """The headers of every weight file in a local folder.

    Raises:
        CheckpointError: there is no weight file, one that the folder's index lists is missing, or one is damaged;
            names it.
    """
    present = {path.name: path for path in sorted(folder.glob(WEIGHT_FILES))}
    missing = listed_files(folder) - present.keys()
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(sorted(missing))}, which its index lists")
    if not present:
        raise CheckpointError(f"{folder} holds no {WEIGHT_FILES}")
    return Headers({name: tensor for path in present.values() for name, tensor in read_header(path).items()})


def listed_files(folder: Path) -> set[str]:
    """The weight files that the folder's index lists; none where there is no index.

    Raises:
        CheckpointError: the index is damaged; names it.
    """
    path = folder / INDEX_FILE
    if not path.exists():
        return set()
    try:
        return {str(file) for file in json.loads(path.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
