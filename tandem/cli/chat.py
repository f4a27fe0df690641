"""Talks to a model in the terminal; answers stream, calls of tools are shown as they are written.

With --message one turn, else a conversation: an empty line or Ctrl-D ends it, Ctrl-C
ends the answer that runs. When the model calls a tool you are asked for its result.

examples:
  tandem chat                                     the only model that serves
  tandem chat tandem-demo-qwen -m "Say hello."
  tandem chat tandem-demo-qwen --tools tools.json -m "What is the weather in Paris?"
  echo "Say hello." | tandem chat tandem-demo-qwen

tools.json is what an OpenAI client sends as "tools":
  [{"type": "function", "function": {"name": "get_weather",
    "description": "Get the current weather for a city", "parameters":
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack
from typing import Final

from grpc import aio

from tandem import rpc
from tandem.cli import connect
from tandem.cli.conversation import Conversation
from tandem.cli.plan import tokens
from tandem.cli.tool_files import read_tools
from tandem.errors import NotFoundError, TandemError
from tandem.settings import MODEL_VARIABLE, join_address
from tandem.v1 import generation_pb2, membership_pb2

SUMMARY: Final = "talk to a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=os.environ.get(MODEL_VARIABLE, ""),
        help=f"a name of `tandem models` [{MODEL_VARIABLE}] (the only model that serves)",
    )
    parser.add_argument("-m", "--message", metavar="TEXT", help="ask this, print the answer and end")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--tools", metavar="FILE", help="tools that the model may call, as JSON")
    parser.add_argument("--max-tokens", metavar="N", type=tokens, help="limit of each answer")
    parser.add_argument("--temperature", metavar="T", type=float, help="0 is greedy (the model's default)")
    parser.add_argument("--seed", metavar="N", type=_seed, help="same seed, same answer (one of its own each time)")
    connect.add_arguments(parser)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number below 2^64")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Runs one turn or a conversation."""
    tools = read_tools(arguments.tools) if arguments.tools else []
    message = arguments.message
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            head, model = runner.run(_find_head(stack, arguments))
            conversation = Conversation(
                head,
                generation_pb2.GenerateRequest(
                    model=model,
                    tools=tools,
                    max_tokens=arguments.max_tokens,
                    sampling=generation_pb2.SamplingParams(temperature=arguments.temperature),
                ),
                seed=arguments.seed,
                system=arguments.system,
            )
            if message is None:
                _talk(runner, conversation)
            else:
                runner.run(conversation.say(message))
        finally:
            runner.run(stack.aclose())
    return 0


async def _find_head(stack: AsyncExitStack, arguments: argparse.Namespace) -> tuple[connect.Connection, str]:
    """The head of the model's pipeline, and the model's name; any node, which may load it, when it does not serve."""
    connection = await stack.enter_async_context(connect.connect(arguments))
    try:
        topology = await connection.topology()
    except aio.AioRpcError as error:
        raise rpc.from_rpc_error(error) from None
    pipeline, model = choose(topology, arguments.model)
    if pipeline is None:
        return connection, model
    heads = set(pipeline.stages[0].node_ids) if pipeline.stages else set()
    addresses = [
        join_address(endpoint.host, endpoint.port)
        for node in topology.nodes
        if node.node_id in heads
        for endpoint in node.endpoints
    ]
    if connection.address in addresses:
        return connection, model
    head = await connect.first_of(addresses, connect.GUESSED_DEADLINE)
    if head is None:
        return connection, model
    await stack.enter_async_context(head.channel)
    return head, model


def choose(topology: membership_pb2.Topology, wanted: str) -> tuple[membership_pb2.Pipeline | None, str]:
    """The pipeline that serves a name, and the name; without a name, the only model there is."""
    if wanted:
        for pipeline in topology.pipelines:
            if wanted in (name.name for name in pipeline.served_names):
                return pipeline, wanted
        return None, wanted
    if len(topology.pipelines) == 1 and topology.pipelines[0].served_names:
        return topology.pipelines[0], topology.pipelines[0].served_names[0].name
    names = sorted(name.name for pipeline in topology.pipelines for name in pipeline.served_names)
    if names:
        raise NotFoundError(f"several models serve, name one: {', '.join(names)}")
    raise NotFoundError("no model serves; `tandem models` lists those at hand, `tandem load MODEL` loads one")


def _talk(runner: asyncio.Runner, conversation: Conversation) -> None:
    """Asks for a line, streams the answer, asks for the results of calls, until there is no line."""
    while (line := _ask("> ")).strip():
        calls = _turn(runner, conversation, line)
        while calls:
            for call in calls:
                conversation.add_result(call, _ask(f"result of {call.name}> "))
            calls = _turn(runner, conversation, None)


def _turn(runner: asyncio.Runner, conversation: Conversation, line: str | None) -> list[generation_pb2.ToolCall]:
    """One answer. Ctrl-C and errors end the answer, never the conversation."""
    try:
        return runner.run(conversation.say(line))
    except KeyboardInterrupt:
        print()
    except TandemError as error:
        print(f"tandem: {error.message}", file=sys.stderr)
    return []


def _ask(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        print()
        return ""
