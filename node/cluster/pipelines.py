"""One picture of the pipelines out of what each node tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tandem.v1.membership_pb2 import (
    PIPELINE_STATE_DEGRADED,
    PIPELINE_STATE_READY,
    PIPELINE_STATE_UNSPECIFIED,
    Pipeline,
    Stage,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What one node tells: the pipelines of which it holds a segment. ``lost``: it told so before it was lost."""

    node_id: str
    lost: bool
    pipelines: tuple[Pipeline, ...]


def merge(reports: Iterable[Report], missing: Mapping[str, str]) -> list[Pipeline]:
    """The pipelines by id, each once: the highest epoch wins, of equal ones the smaller head.

    Of one epoch the head's own word counts most. A pipeline of which a stage stands on a node in ``missing`` (its id,
    and why it is missing) is DEGRADED and says what is missing. What only lost nodes tell counts as long as every
    node of that pipeline is missing: a live one would tell it itself if it were still so.
    """
    best: dict[str, tuple[tuple[int, str, bool, str], Pipeline]] = {}
    for report in reports:
        for pipeline in report.pipelines:
            head = head_of(pipeline)
            if report.lost and not members_of(pipeline) <= missing.keys():
                continue
            rank = (-pipeline.epoch, head, report.node_id != head, report.node_id)
            known = best.get(pipeline.pipeline_id)
            if known is None or rank < known[0]:
                best[pipeline.pipeline_id] = (rank, pipeline)
    return [_judged(best[pipeline_id][1], missing) for pipeline_id in sorted(best)]


def head_of(pipeline: Pipeline) -> str:
    """The id of the head; empty for a pipeline without stages."""
    return pipeline.stages[0].node_ids[0] if pipeline.stages and pipeline.stages[0].node_ids else ""


def members_of(pipeline: Pipeline) -> set[str]:
    """The ids of all nodes that hold a segment."""
    return {node_id for stage in pipeline.stages for node_id in stage.node_ids}


def _judged(pipeline: Pipeline, missing: Mapping[str, str]) -> Pipeline:
    gaps = [
        f"stage {index} ({_layers(stage)}): {missing[node_id]}"
        for index, stage in enumerate(pipeline.stages)
        for node_id in stage.node_ids
        if node_id in missing
    ]
    if not gaps:
        return pipeline
    judged = Pipeline()
    judged.CopyFrom(pipeline)
    if judged.state in (PIPELINE_STATE_UNSPECIFIED, PIPELINE_STATE_READY, PIPELINE_STATE_DEGRADED):
        judged.state = PIPELINE_STATE_DEGRADED
    judged.reason = "missing: " + "; ".join(gaps)
    return judged


def _layers(stage: Stage) -> str:
    parts = [
        f"layers {each.first_layer} to {each.end_layer - 1}"
        for each in stage.segments
        if each.end_layer > each.first_layer
    ]
    parts += ["output head"] if any(each.epilogue for each in stage.segments) else []
    return ", ".join(parts) or "no layers"
