"""Reading a topology: which pipelines serve a name, and what they lack."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from tandem.settings import join_address
from tandem.v1 import membership_pb2, types_pb2

_STATES: Final = {
    membership_pb2.PIPELINE_STATE_LOADING: "loading",
    membership_pb2.PIPELINE_STATE_READY: "ready",
    membership_pb2.PIPELINE_STATE_DEGRADED: "degraded",
    membership_pb2.PIPELINE_STATE_UNLOADING: "unloading",
}


@dataclass(frozen=True)
class Route:
    """The way to the model of one request: the pipeline that serves it and the node that is its head."""

    pipeline: membership_pb2.Pipeline
    head: membership_pb2.Node

    def fingerprint(self) -> str:
        """Changes with the checkpoint and with the versions that compute it: equal seeds then need not agree."""
        model, versions = self.pipeline.model, self.head.capabilities
        facts = (model.model_id, model.revision, versions.mlx_version, versions.mlx_lm_version, self.head.version)
        return "fp_" + hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]


def state_of(pipeline: membership_pb2.Pipeline) -> str:
    """A pipeline's state in one word."""
    return _STATES.get(pipeline.state, "unknown")


def is_ready(pipeline: membership_pb2.Pipeline) -> bool:
    """Whether it serves."""
    return pipeline.state == membership_pb2.PIPELINE_STATE_READY


def pipelines_of(topology: membership_pb2.Topology, name: str) -> list[membership_pb2.Pipeline]:
    """The pipelines that serve a name or will, those that are going away left out; ready ones first."""
    found = [
        pipeline
        for pipeline in topology.pipelines
        if pipeline.state != membership_pb2.PIPELINE_STATE_UNLOADING
        and any(served.name == name for served in pipeline.served_names)
    ]
    return sorted(found, key=is_ready, reverse=True)


def head_of(topology: membership_pb2.Topology, pipeline: membership_pb2.Pipeline) -> membership_pb2.Node | None:
    """The node that holds stage 0, None when the topology does not know it."""
    if not pipeline.stages or not pipeline.stages[0].node_ids:
        return None
    head_id = pipeline.stages[0].node_ids[0]
    return next((node for node in topology.nodes if node.node_id == head_id), None)


def describe(pipeline: membership_pb2.Pipeline) -> str:
    """A pipeline that does not serve, in a few words for people."""
    names = ", ".join(served.name for served in pipeline.served_names) or pipeline.model.model_id
    reason = f": {pipeline.reason}" if pipeline.reason else ""
    return f"{names} is {state_of(pipeline)}{reason}"


def address_of(endpoint: types_pb2.Endpoint) -> str:
    """``host:port`` for a channel."""
    return join_address(endpoint.host, endpoint.port)
