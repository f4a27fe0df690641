"""Where a node gets a model from: its disk first, the hub where the disk does not have it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants

from node.cluster.catalog import Catalog
from node.cluster.local_model import LocalModel
from node.cluster.weights import Progress, Weights
from node.engine.headers import Headers
from tandem.errors import NotFoundError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class ModelStore:
    """The models of one node: what is on disk, and what can be brought.

    Args:
        model_dirs: folders of models, beside the hub's cache.
    """

    def __init__(self, model_dirs: Sequence[Path]) -> None:
        cache = Path(constants.HF_HUB_CACHE)
        self._catalog = Catalog(model_dirs, hub_cache=cache)
        self._weights = Weights(self._catalog, cache)

    async def find(self, model_id: str, revision: str = "") -> LocalModel:
        """A model with its settings and headers at hand; its weights may have to be fetched.

        Raises:
            NotFoundError: it is neither on this disk nor on the hub, or not in that revision; with near matches.
            UnavailableError: it is not on this disk and the hub does not answer.
            CheckpointError: a file is damaged; names it.
        """
        found = await asyncio.to_thread(self._catalog.find, model_id, revision=revision)
        if found is not None and await asyncio.to_thread(lambda: found.prepared):
            return found
        other = await asyncio.to_thread(self._catalog.find, model_id) if revision else None
        if other is not None and other.revision.startswith("local-"):
            raise NotFoundError(
                f"{model_id} is here as {other.revision}, not as {revision}: its files differ from the other nodes'",
                code="model_not_found",
            )
        if _HUB_ID.fullmatch(model_id):
            return await self._weights.prepare(model_id, revision=revision)
        near = await asyncio.to_thread(self._catalog.near, model_id)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise NotFoundError(f"there is no model {model_id} here{hint}", code="model_not_found")

    async def headers(self, model: LocalModel) -> Headers:
        """What all weight files hold. Raises CheckpointError."""
        return await asyncio.to_thread(model.headers)

    async def fetch(self, model: LocalModel, files: Sequence[str], headers: Headers, progress: Progress) -> None:
        """Makes the named weight files be on this disk, as the checkpoint's headers describe them; raises and is
        cancelled as ``Weights.fetch``."""
        await self._weights.fetch(model, files, headers=headers, progress=progress)

    async def on_disk(self) -> list[LocalModel]:
        """Every model that is wholly on this disk."""
        return [model for model in await asyncio.to_thread(self._catalog.list) if model.complete]
