"""Run a contiguous range of the layers of any mlx-lm model, with the model's own code.

Every node builds the whole skeleton (lazy, so what is never evaluated costs nothing) and runs the model's own forward.
Calls of layers that a stage does not own are stood in for: by what came over the wire, or by ghosts that nobody reads.
Nothing is renumbered, so layer indices, masks and offsets come out right. What must cross a cut is found by a trace.
``docs/architecture.md`` tells the whole.
"""

from node.engine.cutting.caches import CacheCost, batchable, trimmable
from node.engine.cutting.ghosts import ghost, make_ghosts, parameters
from node.engine.cutting.plan import CutPlan
from node.engine.cutting.slots import Axis, Slot, TensorShape
from node.engine.cutting.stage import ModelStage
from node.engine.cutting.whole import WholeModel

__all__ = [
    "Axis",
    "CacheCost",
    "CutPlan",
    "ModelStage",
    "Slot",
    "TensorShape",
    "WholeModel",
    "batchable",
    "ghost",
    "make_ghosts",
    "parameters",
    "trimmable",
]
