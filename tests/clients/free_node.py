"""A node daemon whose `auto` is free: no grammar wakes where the model may choose. What the grammar costs or saves is
the difference to a node as it is.

    python free_node.py [flags of `tandem node`]
"""

from __future__ import annotations

import sys

from node.__main__ import main
from node.serving import head as serving_head
from node.serving.grammar.demand import Demand, demand_of
from tandem.v1 import generation_pb2 as pb


def free_demand_of(request: pb.GenerateRequest) -> Demand | None:
    """The demand of a request, unless it leaves the choice to the model."""
    demand = demand_of(request)
    return None if demand is not None and demand.choice == "auto" and not demand.json else demand


if __name__ == "__main__":
    vars(serving_head)["demand_of"] = free_demand_of
    sys.exit(main())
