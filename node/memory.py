"""The memory of one node: what weights and caches may take, and which pipelines have reserved it."""

from __future__ import annotations

from node.cluster.costs import size_text
from tandem.errors import OverloadedError, UnavailableError


class Memory:
    """Hands out ``total`` bytes. Who loads reserves first, so that of two loads at once only one can win."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._reserved: dict[str, int] = {}
        self._models: dict[str, str] = {}

    @property
    def free(self) -> int:
        """Bytes that nothing has reserved."""
        return max(0, self.total - sum(self._reserved.values()))

    def __contains__(self, pipeline_id: str) -> bool:
        """Whether a pipeline has reserved something."""
        return pipeline_id in self._reserved

    def reserve(self, pipeline_id: str, model_id: str, needed: int) -> None:
        """Reserves bytes for a pipeline's stage.

        Raises:
            UnavailableError: another pipeline of the model has reserved here (``model_loading``).
            OverloadedError: so much is not free; says how much is.
        """
        for other, its_model in self._models.items():
            if its_model == model_id:
                raise UnavailableError(f"{model_id} is being loaded here already, as {other}", code="model_loading")
        if needed > self.free:
            raise OverloadedError(
                f"{size_text(needed)} are needed for weights and caches, {size_text(self.free)} of "
                f"{size_text(self.total)} are free",
                retry_after=0,
                code="out_of_memory",
            )
        self._reserved[pipeline_id] = needed
        self._models[pipeline_id] = model_id

    def correct(self, pipeline_id: str, taken: int) -> None:
        """What a pipeline that has reserved really takes."""
        self._reserved[pipeline_id] = taken

    def release(self, pipeline_id: str) -> int:
        """Gives a pipeline's bytes back; how many."""
        self._models.pop(pipeline_id, None)
        return self._reserved.pop(pipeline_id, 0)
