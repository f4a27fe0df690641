"""A model's folder on this node's disk: what it is, under which names it is served, whether all of it is here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from node.engine.headers import INDEX_FILE, WEIGHT_FILES, Headers, listed_files, read_headers
from tandem.errors import CheckpointError

CONFIG_FILE = "config.json"
SERVING_FILE = "tandem.json"
"""A folder may hold one that says under which names, with which templates and formats, the model is served."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tiktoken.model",
    "chat_template.jinja",
    "chat_template.json",
)

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "max_sequence_length",
    "max_seq_length",
    "max_seq_len",
    "seq_length",
    "n_positions",
    "n_ctx",
    "model_max_length",
    "max_context_length",
)
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True, slots=True)
class ServedNameSpec:
    """A name that clients ask for; the chat template is a file in the folder.

    Empty: the checkpoint's own template, and a format that is to be recognised.
    """

    name: str
    chat_template: str = ""
    tool_format: str = ""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this node's disk.

    ``revision`` is equal on two nodes that hold the same files: the commit of a hub's snapshot, else a digest.
    ``context_tokens`` is 0 where the configuration sets no limit. ``complete`` says whether all weight files are here;
    a node needs only those of its stage.
    """

    model_id: str
    folder: Path
    revision: str
    served_names: tuple[ServedNameSpec, ...]
    context_tokens: int
    model_type: str
    complete: bool

    @property
    def prepared(self) -> bool:
        """Whether nothing but weights can be missing. Not so for a hub's snapshot whose fetching ended before its
        headers were known. Raises CheckpointError when the known ones are damaged."""
        return self.complete or self.folder.parent.name != "snapshots" or known_headers(self.folder) is not None

    def headers(self) -> Headers:
        """What the whole checkpoint holds, also where only some of its files are here and the rest is known.

        Raises CheckpointError, naming the file, when one is missing or damaged.
        """
        return known_headers(self.folder) or read_headers(self.folder)


def read_model(model_id: str, folder: Path, *, served_as: str, commit: str | None = None) -> LocalModel:
    """Look at a model's folder; no weights are read.

    Args:
        model_id: how the model is asked for.
        folder: holds ``config.json``.
        served_as: its name, unless the folder has a ``tandem.json``.
        commit: the commit of a hub's snapshot.

    Raises:
        CheckpointError: a file is damaged; names it.
    """
    config = _read_json(folder / CONFIG_FILE)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError(f"{folder / CONFIG_FILE} names no model_type")
    return LocalModel(
        model_id=model_id,
        folder=folder,
        revision=commit or _digest(folder),
        served_names=_served_names(folder) or (ServedNameSpec(served_as),),
        context_tokens=context_tokens(config),
        model_type=model_type,
        complete=_complete(folder),
    )


def context_tokens(config: Mapping[str, Any]) -> int:
    """The longest context that a configuration allows, in tokens; 0 where it sets no limit."""
    for part in (config, *(config.get(key) for key in _TEXT_CONFIGS)):
        if isinstance(part, Mapping):
            for key in _CONTEXT_KEYS:
                value = part.get(key)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    return value
    return 0


def repository_folder(hub_cache: Path, model_id: str) -> Path:
    """Where the hub's cache keeps a repository: blobs, snapshots that link to them, references."""
    return hub_cache / f"models--{model_id.replace('/', '--')}"


def headers_file(snapshot: Path) -> Path:
    """Where the headers of a hub's snapshot are kept: beside the snapshots, which stay as others know them."""
    return snapshot.parent.parent / "tandem" / f"{snapshot.name}.headers"


def known_headers(folder: Path) -> Headers | None:
    """The kept headers of a hub's snapshot, if there are any. Raises CheckpointError when they are damaged."""
    if folder.parent.name != "snapshots":
        return None
    path = headers_file(folder)
    try:
        return Headers.load(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}") from error


def _complete(folder: Path) -> bool:
    known = known_headers(folder)
    wanted = set(known.files) if known else listed_files(folder)
    if wanted:
        return all((folder / file).exists() for file in wanted)
    return any(path.exists() for path in folder.glob(WEIGHT_FILES))


def _served_names(folder: Path) -> tuple[ServedNameSpec, ...]:
    path = folder / SERVING_FILE
    if not path.exists():
        return ()
    entries = _read_json(path).get("served_names")
    if not isinstance(entries, list) or not entries:
        raise CheckpointError(f"{path} lists no served_names")
    names: dict[str, ServedNameSpec] = {}
    for entry in entries:
        name, template, tool_format = (
            entry.get(key, "") if isinstance(entry, Mapping) else None
            for key in ("name", "chat_template", "tool_format")
        )
        if not (isinstance(name, str) and isinstance(template, str) and isinstance(tool_format, str) and name):
            raise CheckpointError(f"{path}: an entry of served_names needs a name, and texts throughout: {entry!r}")
        if name in names:
            raise CheckpointError(f"{path} lists {name} twice")
        if template and not _is_inside(folder, template):
            raise CheckpointError(f"{path}: there is no chat template {template} in the folder")
        names[name] = ServedNameSpec(name, template, tool_format)
    return tuple(names.values())


def _is_inside(folder: Path, file: str) -> bool:
    path = folder / file
    return path.is_file() and ".." not in Path(file).parts and not Path(file).is_absolute()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object")
    return value


def _digest(folder: Path) -> str:
    """Names the files of a local folder without reading the weights.

    An index stands for the weight files that it lists, so that a node with only its own has the same digest.
    """
    digest = hashlib.sha256()
    listed = listed_files(folder)
    for name in (CONFIG_FILE, INDEX_FILE, *TOKENIZER_FILES):
        path = folder / name
        if path.is_file():
            stat = path.stat()
            digest.update(f"{name} {_file_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    for path in sorted(folder.glob(WEIGHT_FILES)):
        if path.name not in listed:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return f"local-{digest.hexdigest()[:32]}"


@lru_cache(maxsize=1024)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    """Digest of a file, read once for as long as it stays the same. Size and time are part of the key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
