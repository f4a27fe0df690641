"""How things look on a terminal: tables, sizes, layers, progress bars."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from tandem.v1 import membership_pb2, model_pb2, types_pb2

_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces between, no space at the end of a line."""
    lines = [tuple(head), *(tuple(cell or "-" for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def size(number: int) -> str:
    """Bytes for people, in powers of 1000: ``950 B``, ``12.0 GB``."""
    amount, unit = float(number), 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{number} B"


def layers(segments: Iterable[types_pb2.Segment]) -> str:
    """What a stage runs, for people: ``layers 0-3, output head``."""
    parts = []
    for segment in segments:
        last = segment.end_layer - 1
        if last > segment.first_layer:
            parts.append(f"layers {segment.first_layer}-{last}")
        elif last == segment.first_layer:
            parts.append(f"layer {last}")
        if segment.epilogue:
            parts.append("output head")
    return ", ".join(parts)


def word(enum: Mapping[int, str], value: int, prefix: str) -> str:
    """The word of an enum's value for people: ``alive`` of ``NODE_STATE_ALIVE``."""
    return enum.get(value, str(value)).removeprefix(prefix).lower().replace("_", " ")


def node_state(node: membership_pb2.Node) -> str:
    """The state of a node in a word."""
    names = {value.number: value.name for value in membership_pb2.NodeState.DESCRIPTOR.values}
    return word(names, node.state, "NODE_STATE_")


def pipeline_state(pipeline: membership_pb2.Pipeline) -> str:
    """The state of a pipeline in a word."""
    names = {value.number: value.name for value in membership_pb2.PipelineState.DESCRIPTOR.values}
    return word(names, pipeline.state, "PIPELINE_STATE_")


def node_trouble(node: membership_pb2.Node, name: str) -> str:
    """Why a node is not well, in a sentence; empty when it does not say."""
    return _trouble(name, node_state(node), node.state_reason)


def pipeline_trouble(pipeline: membership_pb2.Pipeline) -> str:
    """Why a pipeline does not serve, in a sentence; empty for one that does, or that does not say."""
    if pipeline.state == membership_pb2.PIPELINE_STATE_READY:
        return ""
    return _trouble(pipeline.model.model_id, pipeline_state(pipeline), pipeline.reason)


def with_troubles(shown: str, troubles: Iterable[str]) -> str:
    """A table, and below it a line for each trouble: in a column, a reason would widen every line."""
    return "\n".join((shown, *(trouble for trouble in troubles if trouble)))


def _trouble(name: str, state: str, reason: str) -> str:
    if not reason:
        return ""
    return f"{name} is {reason}" if reason.startswith(f"{state} ") else f"{name} is {state}: {reason}"


def served_as(pipeline: membership_pb2.Pipeline) -> str:
    """The names under which a pipeline is served."""
    return ", ".join(name.name for name in pipeline.served_names)


def first_name(pipeline: membership_pb2.Pipeline) -> str:
    """A name to ask for."""
    return pipeline.served_names[0].name if pipeline.served_names else pipeline.model.model_id


def node_names(topology: membership_pb2.Topology) -> dict[str, str]:
    """Name of each node by its id; a name that two nodes have is told apart by the id."""
    names = [node.name for node in topology.nodes]
    return {
        node.node_id: node.name if node.name and names.count(node.name) == 1 else f"{node.name}({node.node_id[:8]})"
        for node in topology.nodes
    }


def own_command() -> str:
    """What a person types for ``tandem`` to be run as it runs now, from the folder where they are."""
    program = Path(sys.argv[0])
    if program.name != "tandem" or not program.exists():
        return f"{shlex.quote(sys.executable)} -m tandem.cli"
    found = shutil.which("tandem")
    return "tandem" if found is not None and program.samefile(found) else shlex.quote(str(program))


def stage_table(stages: Iterable[membership_pb2.Stage], names: Mapping[str, str]) -> str:
    """Which node holds which layers, in ring order."""
    rows = [
        (", ".join(names.get(node_id, node_id[:8]) for node_id in stage.node_ids), layers(stage.segments))
        for stage in stages
    ]
    return table(("node", "holds"), rows)


class Progress:
    """One bar per node on a terminal, redrawn in place; elsewhere one line for each thing that a node begins to do."""

    WIDTH: Final = 24

    def __init__(self, names: Mapping[str, str], file: TextIO | None = None) -> None:
        self._names = names
        self._file = sys.stderr if file is None else file
        self._nodes: dict[str, model_pb2.NodeLoadProgress] = {}
        self._lines = 0
        self._phases = {value.number: value.name for value in model_pb2.LoadPhase.DESCRIPTOR.values}

    def update(self, progress: model_pb2.NodeLoadProgress) -> None:
        """Shows what one node does now."""
        before = self._nodes.get(progress.node_id)
        self._nodes[progress.node_id] = progress
        if self._file.isatty():
            self._draw()
        elif before is None or before.phase != progress.phase:
            print(self._words(progress), file=self._file, flush=True)

    def _words(self, progress: model_pb2.NodeLoadProgress) -> str:
        name = self._names.get(progress.node_id, progress.node_id[:8])
        of = f" {size(progress.total_bytes)}" if progress.total_bytes else ""
        return f"{name}: {word(self._phases, progress.phase, 'LOAD_PHASE_')}{of}"

    def _draw(self) -> None:
        if self._lines:
            self._file.write(f"\x1b[{self._lines}A")
        columns = shutil.get_terminal_size().columns
        for progress in self._nodes.values():
            share = min(progress.done_bytes / progress.total_bytes, 1.0) if progress.total_bytes else 0.0
            if progress.phase == model_pb2.LOAD_PHASE_READY:
                share = 1.0
            bar = ("█" * round(share * self.WIDTH)).ljust(self.WIDTH, "░")
            self._file.write(f"{f'{bar} {share:4.0%} {self._words(progress)}'[: columns - 1]}\x1b[K\n")
        self._lines = len(self._nodes)
        self._file.flush()
