"""A cluster whose nodes draw by script, and how tests write the script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from running_cluster import ROOT, Cluster

SCRIPTED_NODE = Path(__file__).with_name("scripted_node.py")


class Thinking(TypedDict):
    """The markers of a thought, and the same with what models write round them."""

    open: str
    close: str
    begin: str
    end: str


class ScriptedCluster(Cluster):
    """As any cluster, but ``say`` sets what the model answers; without that it answers by itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.script = folder / "script.json"
        self.say()

    def say(
        self,
        *entries: tuple[str | list[str], str],
        ends: Sequence[str] = (),
        thoughts: Sequence[Thinking] = (),
        thinks: bool = False,
        tokenizer: Path = ROOT / "node" / "demo" / "tokenizer.json",
    ) -> None:
        """Sets the script: what the prompt contains, and what is then said; of several that fit the last counts.

        The turn ends with the first of ``ends`` that the vocabulary has a token for. Where the prompt leaves one of
        ``thoughts`` open, something is thought first; with ``thinks``, wherever the prompt has not just closed one.
        ``tokenizer`` is the file of the model's; the embedded model's if it is not said.
        """
        listed = [{"when": [when] if isinstance(when, str) else when, "say": said} for when, said in entries]
        script = {"ends": [*ends, "<|im_end|>"], "thoughts": [*thoughts], "thinks": thinks, "entries": listed}
        self.script.write_text(json.dumps({**script, "tokenizer": str(tokenizer)}))

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
