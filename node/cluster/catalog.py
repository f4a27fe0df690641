"""What lies on this node's disk: local folders, the hub's cache, and the embedded model."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from node.cluster.local_model import CONFIG_FILE, LocalModel, ServedNameSpec, read_model, repository_folder
from node.engine.headers import WEIGHT_FILES
from tandem.errors import CheckpointError

__all__ = ["DEMO_FOLDER", "DEMO_MODEL", "Catalog", "LocalModel", "ServedNameSpec"]

DEMO_MODEL = "tandem-demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo"

_log = logging.getLogger(__name__)


class Catalog:
    """The models on this node's disk. Every method reads the disk: call it in a thread, not in the event loop.

    Args:
        model_dirs: folders with a model in each folder, or in each folder of their folders ("owner/name").
        hub_cache: the hub's cache (``HF_HUB_CACHE``), or None.
    """

    def __init__(self, model_dirs: Sequence[Path] = (), *, hub_cache: Path | None = None) -> None:
        self._model_dirs = [Path(os.path.normpath(path.expanduser().absolute())) for path in model_dirs]
        self._hub_cache = hub_cache

    def find(self, model_id: str, *, revision: str = "") -> LocalModel | None:
        """The model with that id, or None when it is not here, or not in that revision.

        An id is the embedded model's name, a path of a folder, a name in a model folder, a repository in the hub's
        cache (its ``main``, unless another revision is asked for), or a name that one of them is served under: the
        first of these that fits.

        Raises:
            CheckpointError: the model is here, and a file of it is damaged; names the file.
        """
        found = self._local(model_id) or self.cached(model_id, revision)
        if found is None:
            served = (m for m in self.list() if any(spec.name == model_id for spec in m.served_names))
            found = next(served, None)
        return found if found is None or revision in ("", found.revision) else None

    def cached(self, model_id: str, revision: str = "") -> LocalModel | None:
        """The model in the hub's cache: that revision, or without one ``main``, or else the newest; None: not here.

        Raises CheckpointError, naming the file, when one is damaged.
        """
        folder = self._snapshot(model_id, revision)
        return None if folder is None else read_model(model_id, folder, served_as=model_id, commit=folder.name)

    def list(self) -> list[LocalModel]:
        """Every model, the embedded one first, then by id; one that is damaged is left out, with a warning."""
        models: dict[str, LocalModel] = {}
        for model_id, folder, commit in self._folders():
            try:
                models.setdefault(model_id, read_model(model_id, folder, served_as=model_id, commit=commit))
            except CheckpointError as error:
                _log.warning("%s is left out: %s", model_id, error.message)
        return sorted(models.values(), key=lambda model: (model.model_id != DEMO_MODEL, model.model_id))

    def near(self, model_id: str, *, most: int = 3) -> Sequence[str]:
        """Ids and served names that somebody may have meant, the nearest first."""
        names = {name for model in self.list() for name in (model.model_id, *(s.name for s in model.served_names))}
        return nearest(model_id, names, most=most)

    def _local(self, model_id: str) -> LocalModel | None:
        if model_id == DEMO_MODEL:
            return read_model(DEMO_MODEL, DEMO_FOLDER, served_as=DEMO_MODEL)
        if not model_id.strip():
            return None
        for path in [*(root / model_id for root in self._model_dirs), Path(os.path.expanduser(model_id))]:  # noqa: PTH111
            folder = Path(os.path.normpath(path.absolute()))
            if os.path.isfile(folder / CONFIG_FILE):  # noqa: PTH113 (False for what can be no path)
                name = self._name_of(folder)
                return read_model(name or str(folder), folder, served_as=name or folder.name)
        return None

    def _name_of(self, folder: Path) -> str | None:
        """The name of a folder inside a model folder, by which other nodes know it wherever their folders are."""
        return next((str(folder.relative_to(d)) for d in self._model_dirs if d in folder.parents), None)

    def _snapshot(self, model_id: str, revision: str = "") -> Path | None:
        """The folder of the revision that the cache holds, or without one of ``main``, or else of the newest."""
        if self._hub_cache is None:
            return None
        try:
            path = try_to_load_from_cache(model_id, CONFIG_FILE, self._hub_cache, revision or None)
        except (HFValidationError, OSError):
            return None
        if isinstance(path, str):
            return Path(path).parent
        if revision:
            return None
        snapshots = repository_folder(self._hub_cache, model_id).glob(f"snapshots/*/{CONFIG_FILE}")
        return max((path.parent for path in snapshots), key=lambda path: path.stat().st_mtime, default=None)

    def _folders(self) -> Iterator[tuple[str, Path, str | None]]:
        """Id, folder and commit of each model."""
        yield DEMO_MODEL, DEMO_FOLDER, None
        for root in self._model_dirs:
            for pattern in (f"*/{CONFIG_FILE}", f"*/*/{CONFIG_FILE}"):
                for path in sorted(root.glob(pattern)):
                    folder = path.parent
                    if any(folder.glob(WEIGHT_FILES)):
                        yield str(folder.relative_to(root)), folder, None
        if self._hub_cache is not None:
            for repository in sorted(self._hub_cache.glob("models--*")):
                model_id = repository.name.removeprefix("models--").replace("--", "/")
                snapshot = self._snapshot(model_id)
                if snapshot is not None and any(snapshot.glob(WEIGHT_FILES)):
                    yield model_id, snapshot, snapshot.name


def nearest(name: str, known: set[str], *, most: int = 3) -> list[str]:
    """The known names that look most like the given one, without regard to case or owner."""
    keys: dict[str, list[str]] = {}
    for candidate in sorted(known):
        for key in {candidate.lower(), candidate.lower().rpartition("/")[2]}:
            keys.setdefault(key, []).append(candidate)
    wanted = name.lower()
    found = [
        match
        for key in (wanted, wanted.rpartition("/")[2])
        for close in difflib.get_close_matches(key, keys, n=most, cutoff=0.6)
        for match in keys[close]
    ]
    return list(dict.fromkeys(found))[:most]
