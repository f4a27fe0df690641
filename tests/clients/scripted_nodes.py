"""A cluster whose nodes draw by script, and how tests write the script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running_cluster import Cluster

SCRIPTED_NODE = Path(__file__).with_name("scripted_node.py")


class ScriptedCluster(Cluster):
    """As any cluster, but ``say`` sets what the model answers; without that it answers by itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.script = folder / "script.json"
        self.say()

    def say(self, *entries: tuple[str | list[str], str]) -> None:
        """Sets the script: what the prompt contains, and what is then said; of several that fit the last counts."""
        listed = [{"when": [when] if isinstance(when, str) else when, "say": said} for when, said in entries]
        self.script.write_text(json.dumps(listed))

    def add_scripted_node(self) -> None:
        """Starts one more node, which joins the first."""
        self.new_node(entry=[str(SCRIPTED_NODE), str(self.script)]).start()


@contextmanager
def running_script(folder: Path) -> Iterator[ScriptedCluster]:
    """Two scripted nodes with the embedded model over both, and a gateway."""
    cluster = ScriptedCluster(folder)
    try:
        for _ in range(2):
            cluster.add_scripted_node()
        cluster.load()
        cluster.add_gateway()
        yield cluster
        cluster.stop()
    finally:
        cluster.kill()


def call(name: str, **arguments: object) -> str:
    """A tool call as models of the Hermes format write it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
