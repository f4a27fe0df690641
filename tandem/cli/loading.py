"""Planning and loading a model, as the commands that do it share it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from tandem.cli import output
from tandem.cli.connect import Connection
from tandem.errors import NotFoundError, UnavailableError
from tandem.v1 import membership_pb2, model_pb2, types_pb2

PLAN_DEADLINE: Final = 60.0
"""Seconds that planning may take: it may fetch a model's configuration from the hub."""
SILENCE_DEADLINE: Final = 120.0
"""Seconds that a loading cluster may say nothing; downloads may take hours, but they report."""


def model_ref(text: str, revision: str = "") -> types_pb2.ModelRef:
    """The model that a person means: a path is made whole, as nodes run in other folders; other names stay."""
    if text.startswith((".", "/", "~")):
        text = str(Path(text).expanduser().resolve())
    return types_pb2.ModelRef(model_id=text, revision=revision)


def node_ids(topology: membership_pb2.Topology, wanted: list[str]) -> list[str]:
    """Ids of nodes given by name or by the beginning of their id, in the given order.

    Raises ``NotFoundError`` for one that there is not, or of which there are several.
    """
    found = []
    for text in wanted:
        matches = [node.node_id for node in topology.nodes if node.name == text or node.node_id.startswith(text)]
        if len(matches) != 1:
            names = ", ".join(output.node_names(topology).values())
            amount = "no node" if not matches else "more than one node"
            raise NotFoundError(f"{amount} is called {text!r}; there are {names}")
        found.append(matches[0])
    return found


async def plan_model(
    connection: Connection, model: types_pb2.ModelRef, *, context_tokens: int = 0, nodes: list[str] | None = None
) -> model_pb2.Plan:
    """Where a model would go; with ``nodes`` (ids), over exactly these."""
    request = model_pb2.PlanModelRequest(model=model, context_tokens=context_tokens, node_ids=nodes or ())
    response = await connection.models.PlanModel(request, timeout=PLAN_DEADLINE)
    return response.plan


async def load_model(
    connection: Connection, request: model_pb2.LoadModelRequest, names: dict[str, str]
) -> membership_pb2.Pipeline:
    """Loads a model and shows each node's progress on stderr until it serves.

    Raises ``UnavailableError`` after ``SILENCE_DEADLINE`` without news. Cancelling it cancels the call; what the
    nodes do then is theirs to say.
    """
    progress = output.Progress(names, sys.stderr)
    call = connection.models.LoadModel(request)
    stream = aiter(call)
    try:
        while True:
            try:
                response = await asyncio.wait_for(anext(stream), SILENCE_DEADLINE)
            except TimeoutError:
                raise UnavailableError(f"{connection.address} has said nothing for {SILENCE_DEADLINE:.0f} s") from None
            except StopAsyncIteration:
                raise UnavailableError(f"{connection.address} stopped loading and did not say why") from None
            match response.WhichOneof("event"):
                case "progress":
                    progress.update(response.progress)
                case "ready":
                    return response.ready
    finally:
        call.cancel()
