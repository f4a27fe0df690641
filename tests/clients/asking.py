"""What the tests of all clients ask for, and how they see that a cluster has nothing left to do."""

from __future__ import annotations

import time
from typing import Any

from running_cluster import Cluster, is_busy

QWEN, LLAMA = "tandem-demo-qwen", "tandem-demo-llama"
PARIS: Any = {"role": "user", "content": "What is the weather in Paris?"}
HELLO: Any = {"role": "user", "content": "Hello!"}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def live_sequences(cluster: Cluster) -> list[int]:
    """Sequences of each stage, in the order of the nodes."""
    return [shard.live_sequences for node in range(len(cluster.nodes)) for shard in cluster.shards(node)]


def wait_until_free(cluster: Cluster, seconds: float = 10) -> None:
    """Waits until no node holds a sequence or any of its memory."""
    deadline = time.monotonic() + seconds
    while True:
        shards = [shard for node in range(len(cluster.nodes)) for shard in cluster.shards(node)]
        assert shards
        if not any(map(is_busy, shards)):
            return
        assert time.monotonic() < deadline, shards
        time.sleep(0.02)
