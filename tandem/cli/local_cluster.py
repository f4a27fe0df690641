"""The cluster that ``tandem up`` starts on this machine: nodes, a loaded model, a gateway."""

from __future__ import annotations

import asyncio
import http.client
import json
import shlex
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from grpc import aio

from tandem import rpc
from tandem.cli import loading, output
from tandem.cli.children import Child, ChildDiedError, Children
from tandem.cli.connect import TOLD_DEADLINE, Connection, first_of
from tandem.daemon import check_listen
from tandem.errors import TandemError, UnavailableError, UnsupportedModelError
from tandem.settings import DEFAULT_NODE, GatewaySettings, load_settings, split_address
from tandem.v1 import membership_pb2, model_pb2, types_pb2

HEARD_DEADLINE: Final = 5.0
"""Seconds in which the nodes must have found each other by mDNS, before they are told each other's addresses."""
JOINED_DEADLINE: Final = 15.0
"""Seconds in which nodes that know each other's addresses must be one cluster."""
HEALTHY_DEADLINE: Final = 20.0
"""Seconds from the model's being loaded to the gateway's saying that it can answer."""
POLL_SECONDS: Final = 0.1
ANY_ADDRESS: Final = "127.0.0.1:0"

TOOL_CALL: Final = {
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Get the current weather for a city",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            },
        }
    ],
    "temperature": 0,
}


class LocalCluster:
    """Starts daemons through ``children``, whose owner ends them."""

    def __init__(self, children: Children, folder: Path, *, name: str, mdns: bool, log_level: str) -> None:
        self._children = children
        self._folder = folder
        self._name = name
        self._mdns = mdns
        self._log_level = log_level
        self._nodes: list[Child] = []
        self._gateway: Child | None = None
        self._topology = membership_pb2.Topology()
        self._pipeline = membership_pb2.Pipeline()

    async def start(self, nodes: int, model: str, port: int) -> None:
        """Returns when a client can be answered.

        Raises ``ChildDiedError`` when a daemon ends meanwhile, and what the cluster answers to planning and loading.
        """
        try:
            await self._unless_a_child_dies(self._start(nodes, model, port))
        except aio.AioRpcError as error:
            raise rpc.from_rpc_error(error) from None

    async def watch(self) -> int:
        """Reports every daemon that dies; returns 1 when no node or no gateway is left. Runs until then."""
        nodes = list(self._nodes)
        while True:
            child = await self._children.death()
            print(f"\n{child.last_lines()}", file=sys.stderr)
            _say(child.end_in_words())
            if child is self._gateway:
                _say("without the gateway nobody can be answered: everything ends")
                return 1
            nodes.remove(child)
            if not nodes:
                _say("no node is left: everything ends")
                return 1
            _say("the others go on; Ctrl-C ends them. To start it again, in another terminal:")
            print(f"\n{self._start_again(child, nodes[0])}\n", file=sys.stderr, flush=True)

    def describe(self) -> str:
        """What is up, who holds what, and a request to copy."""
        assert self._gateway is not None
        url = f"http://{self._gateway.address}"
        names = output.node_names(self._topology)
        addresses = {node.name: node.address for node in self._nodes}
        rows = []
        for stage in self._pipeline.stages:
            for node_id in stage.node_ids:
                name = names.get(node_id, node_id[:8])
                rows.append((name, addresses.get(name, ""), output.layers(stage.segments)))
        idle = [
            (name, address, "nothing") for name, address in addresses.items() if name not in {row[0] for row in rows}
        ]
        return "\n".join(
            [
                "",
                f"{self._pipeline.model.model_id} serves as {output.served_as(self._pipeline)}",
                "",
                output.table(("node", "address", "holds"), [*rows, *idle]),
                "",
                f"gateway  {url}/v1  (OpenAI's API; {url} says how to point a client here)",
                f"status   {output.own_command()} status{self._which_node()}",
                f"logs     {self._folder}/*.log",
                "",
                "A tool call, ready to copy:",
                "",
                self._curl(url),
                "",
                "Ctrl-C ends everything.",
            ]
        )

    def _which_node(self) -> str:
        """What a command must be told to ask this cluster."""
        address = self._nodes[0].address
        return "" if address == DEFAULT_NODE else f" --node {address}"

    @staticmethod
    def _start_again(node: Child, other: Child) -> str:
        """The command that starts a node as it was, at its address, with its state, and with a peer that is there."""
        same = [flag for flag in node.arguments if not flag.startswith(("--listen=", "--peer="))]
        flags = [*same, f"--listen={node.address}", f"--peer={other.address}"]
        return f"{output.own_command()} {shlex.join(flags)}"

    def _curl(self, url: str) -> str:
        body = {"model": output.first_name(self._pipeline), **TOOL_CALL}
        headers = ["-H 'Content-Type: application/json'"]
        if load_settings(GatewaySettings).api_keys:
            headers.append('-H "Authorization: Bearer $TANDEM_API_KEY"')
        return f"curl -s {url}/v1/chat/completions {' '.join(headers)} -d {shlex.quote(json.dumps(body))}"

    async def _unless_a_child_dies(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        death = asyncio.create_task(self._children.death())
        try:
            await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
            if task.done() and task.exception() is not None and not death.done():
                # The other nodes may have noticed a death before we did; its report says more than their errors.
                await asyncio.wait((death,), timeout=0.5)
            if death.done():
                print(death.result().last_lines(), file=sys.stderr)
                raise ChildDiedError(death.result().end_in_words())
            await task
        finally:
            task.cancel()
            death.cancel()
            await asyncio.gather(task, death, return_exceptions=True)

    async def _start(self, nodes: int, model: str, port: int) -> None:
        _say(f"starting {nodes} node{'s' if nodes > 1 else ''} and a gateway (cluster {self._name})")
        await self._start_nodes(nodes, _first_address(port))
        self._gateway = await self._start_gateway(port)
        async with _connected(self._nodes[0]) as head:
            self._topology = await head.topology()
            self._pipeline = await self._load(head, loading.model_ref(model))
        await self._children.listening([self._gateway])
        await _healthy(self._gateway.address)

    async def _start_nodes(self, count: int, first: str) -> None:
        """Starts the nodes, one at the address ``first``, and waits until each sees all others; where need be they are
        told a peer's address."""
        if self._mdns or count == 1:
            self._nodes = [await self._start_node(0, peers=[], mdns=self._mdns, listen=first)]
            self._nodes += [await self._start_node(index, peers=[], mdns=self._mdns) for index in range(1, count)]
            await self._children.listening(self._nodes)
            if count == 1:
                return
            if await self._joined(HEARD_DEADLINE):
                _say("the nodes found each other by mDNS")
                return
            _say(f"mDNS was not heard in {HEARD_DEADLINE:.0f} s (no multicast here?); going on with static peers")
            await self._children.end(self._nodes[1:])
            del self._nodes[1:]
        else:
            self._nodes = [await self._start_node(0, peers=[], mdns=False, listen=first)]
            await self._children.listening(self._nodes)
        peers = [self._nodes[0].address]
        self._nodes += [await self._start_node(index, peers=peers, mdns=False) for index in range(1, count)]
        await self._children.listening(self._nodes)
        if not await self._joined(JOINED_DEADLINE):
            raise UnavailableError(f"the nodes did not become one cluster within {JOINED_DEADLINE:.0f} s")

    async def _start_node(self, index: int, *, peers: list[str], mdns: bool, listen: str = ANY_ADDRESS) -> Child:
        name = f"node-{index + 1}"
        return await self._children.start(
            name,
            [
                "node",
                f"--name={name}",
                f"--listen={listen}",
                f"--cluster={self._name}",
                f"--data-dir={self._folder / name}",
                f"--log-level={self._log_level}",
                "--mdns" if mdns else "--no-mdns",
                # The empty one takes the place of peers that the environment or a file names.
                "--peer=",
                *(f"--peer={peer}" for peer in peers),
            ],
        )

    async def _start_gateway(self, port: int) -> Child:
        arguments = ["gateway", f"--listen=127.0.0.1:{port}", f"--cluster={self._name}", "--no-mdns"]
        arguments += [f"--log-level={self._log_level}", *(f"--node={node.address}" for node in self._nodes)]
        return await self._children.start("gateway", arguments)

    async def _joined(self, deadline: float) -> bool:
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(_connected(node)) for node in self._nodes]
            try:
                async with asyncio.timeout(deadline):
                    for connection in connections:
                        await _sees(connection, len(connections))
            except TimeoutError:
                return False
            return True

    async def _load(self, head: Connection, model: types_pb2.ModelRef) -> membership_pb2.Pipeline:
        """Loads over all nodes; a model that cannot be cut goes whole to one of them, and that is said."""
        ids = {node.name: node.node_id for node in self._topology.nodes}
        try:
            plan = await loading.plan_model(head, model, nodes=[ids[node.name] for node in self._nodes])
        except aio.AioRpcError as error:
            refusal = rpc.from_rpc_error(error)
            if len(ids) == 1 or not isinstance(refusal, UnsupportedModelError):
                raise
            _say(f"{refusal.message}; it goes whole to one node")
            plan = None
        request = model_pb2.LoadModelRequest(model=model, plan=plan)
        return await loading.load_model(head, request, output.node_names(self._topology))


def _first_address(taken: int) -> str:
    """Where commands look for a node that nobody named, if that is free and its port not ``taken`` for clients: they
    then find this cluster by themselves."""
    if split_address(DEFAULT_NODE)[1] == taken:
        return ANY_ADDRESS
    try:
        check_listen(DEFAULT_NODE)
    except TandemError:
        return ANY_ADDRESS
    return DEFAULT_NODE


def _say(text: str) -> None:
    print(f"tandem: {text}", file=sys.stderr, flush=True)


@asynccontextmanager
async def _connected(node: Child) -> AsyncIterator[Connection]:
    connection = await first_of((node.address,), TOLD_DEADLINE)
    if connection is None:
        raise UnavailableError(f"{node.name} listens at {node.address} but does not answer")
    async with connection.channel:
        yield connection


async def _sees(connection: Connection, count: int) -> None:
    """Waits until a node's view has this many members that are alive."""
    async for response in connection.membership.WatchTopology(membership_pb2.WatchTopologyRequest()):
        if sum(node.state == membership_pb2.NODE_STATE_ALIVE for node in response.topology.nodes) == count:
            return
    raise UnavailableError(f"{connection.address} stopped telling who is in its cluster")


async def _healthy(address: str) -> None:
    """Waits until the gateway says that it can answer; ``UnavailableError`` with its own words when it does not."""
    words = "nothing"
    try:
        async with asyncio.timeout(HEALTHY_DEADLINE):
            while True:
                status, words = await asyncio.to_thread(_health, address)
                if status == http.HTTPStatus.OK:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise UnavailableError(f"the gateway is not ready after {HEALTHY_DEADLINE:.0f} s; it says: {words}") from None


def _health(address: str) -> tuple[int, str]:
    host, port = split_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        keys = load_settings(GatewaySettings).api_keys
        connection.request("GET", "/health", headers={"Authorization": f"Bearer {keys[0]}"} if keys else {})
        response = connection.getresponse()
        return response.status, response.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()
