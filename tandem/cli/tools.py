"""Says how a model calls tools: which format was chosen and why, how a call and its result look in its prompt.

Nothing is loaded: the tokenizer and the chat template suffice, and are fetched where they are missing.

examples:
  tandem tools tandem-demo
  tandem tools Qwen/Qwen3-0.6B
  tandem tools ./models/mine --json    for programs
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tandem.cli import connect
from tandem.errors import NotFoundError, UnavailableError
from tandem.settings import NodeSettings, add_flags, given_flags, load_settings
from tandem.v1 import membership_pb2

if TYPE_CHECKING:
    from node.cluster.local_model import LocalModel
    from node.serving.prompt import PromptRenderer

SUMMARY: Final = "say how a model calls tools"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    parser.add_argument("model", metavar="MODEL", help="a served name, a Hugging Face id or a folder")
    parser.add_argument("--format", metavar="KEY", default="", help="as if this format were set (the one recognised)")
    parser.add_argument("--json", action="store_true", help="write JSON")
    add_flags(parser, NodeSettings, only=("model_dirs",))
    connect.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints what is found out, per served name of the model."""
    # Only this command needs a model's libraries, which take a second to import.
    from node.cluster.local_model import context_tokens
    from node.engine.tokenizer import load_tokenizer
    from node.serving.prompt import PromptRenderer

    model, names = asyncio.run(_find(arguments))
    tokenizer = load_tokenizer(model.folder)
    config = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    found = [
        (
            served.name,
            PromptRenderer(
                tokenizer,
                served.chat_template,
                arguments.format or served.tool_format,
                model.model_type,
                context_tokens(config),
            ),
        )
        for served in names
    ]
    if arguments.json:
        print(json.dumps([{"name": name, **as_data(renderer)} for name, renderer in found], indent=2))
    else:
        print("\n\n".join(describe(name, renderer) for name, renderer in found))
    return 0


async def _find(arguments: argparse.Namespace) -> tuple[LocalModel, Sequence[membership_pb2.ServedName]]:
    """The model's folder, and the names under which it is or would be served: only the one asked for if it is one.

    Raises NotFoundError: neither this disk, nor a node, nor the hub has it.
    """
    from node.cluster.store import ModelStore
    from node.serving.prompt import read_template

    store = ModelStore(load_settings(NodeSettings, given_flags(arguments, NodeSettings)).model_dirs)
    try:
        model = await store.find(arguments.model)
    except (NotFoundError, UnavailableError) as missing:
        served = await _served(arguments)
        if served is None:
            raise missing from None
        pipeline, name = served
        return await store.find(pipeline.model.model_id, pipeline.model.revision), [name]
    names = [spec for spec in model.served_names if spec.name == arguments.model] or model.served_names
    return model, [
        membership_pb2.ServedName(
            name=spec.name,
            chat_template=await asyncio.to_thread(read_template, model.folder, spec.chat_template),
            tool_format=spec.tool_format,
        )
        for spec in names
    ]


async def _served(arguments: argparse.Namespace) -> tuple[membership_pb2.Pipeline, membership_pb2.ServedName] | None:
    """The pipeline that serves the name, where a node answers and one does."""
    try:
        async with connect.connect(arguments) as connection:
            topology = await connection.topology()
    except UnavailableError:
        return None
    for pipeline in topology.pipelines:
        for served in pipeline.served_names:
            if served.name == arguments.model:
                return pipeline, served
    return None


def as_data(renderer: PromptRenderer) -> dict[str, Any]:
    """What is known, for programs."""
    detection, probed = renderer.detection, renderer.probed
    wire = detection.format.wire
    call, result = examples(renderer)
    silent = [] if probed.instructions else ["does not tell the model which tools there are"]
    return {
        "format": detection.format.key if detection.how else None,
        "parsed_as": detection.format.key,
        "models": detection.format.models,
        "found_by": detection.how or None,
        "why": detection.why,
        "call": call,
        "result": result,
        "grammar": outline(renderer),
        "wakes_at": wire.trigger or None,
        "quirks": [*probed.quirks.in_words(), *silent, *([probed.error] if probed.error else [])],
    }


def describe(name: str, renderer: PromptRenderer) -> str:
    """What is known, for people."""
    about = as_data(renderer)
    parts = [f"{name}: {about['format'] or 'unknown format'} ({about['why']})"]
    if about["format"]:
        parts.append(f"as spoken by {about['models']}")
    for title in ("call", "result"):
        if about[title]:
            parts.append(f"\na {title} in the prompt:\n{_indented(about[title])}")
    parts.append(f"\nthe grammar of a call:\n{_indented(about['grammar'])}")
    wakes = about["wakes_at"]
    parts.append(f"  in free text it wakes {f'at {wakes!r}' if wakes else 'with the first character of an answer'}")
    if about["quirks"]:
        parts.append("\nthe template:")
        parts += [f"  {quirk}" for quirk in about["quirks"]]
    return "\n".join(parts)


def examples(renderer: PromptRenderer) -> tuple[str, str]:
    """A call as the prompt shows it, and a call with its result: the template's writing, or Tandem's where it drops
    them."""
    from node.serving.detection.probe import ARGUMENTS, NAME
    from parsers.writing import write_calls

    probed = renderer.probed
    call = probed.call or write_calls(renderer.detection.format, [(NAME, json.dumps(ARGUMENTS))])
    behind = probed.result[len(call) :] if probed.result.startswith(call) else probed.result
    return call.strip("\n"), behind.strip("\n")


def outline(renderer: PromptRenderer) -> str:
    """The shape that a grammar holds calls to: literals quoted, what is free in capitals."""
    wire = renderer.detection.format.wire

    def literal(text: str) -> str:
        quoted = (piece if piece.isupper() else json.dumps(piece, ensure_ascii=False) for piece in _split(text))
        return " ".join(quoted)

    arguments = {
        "json": "JSON",
        "python": "KEY=PYTHON, …",
        "braces": f"{{KEY:VALUE, …}} with texts between {json.dumps(wire.quote, ensure_ascii=False)}",
        "elements": f"{wire.quote}<KEY>VALUE{wire.quote}</KEY> …",
        "parameters": "({} KEY {} VALUE {})…".format(*map(literal, wire.parameter)),
    }[wire.style]
    one = " ".join(
        part for part in (literal(wire.head), "NAME", literal(wire.middle), arguments, literal(wire.tail)) if part
    )
    lines = [literal(wire.opening), one, f"({literal(wire.separator)} another)…" if wire.separator else "(another)…"]
    return "\n".join(line for line in (*lines, literal(wire.closing)) if line)


def _split(text: str) -> list[str]:
    """A literal cut at its placeholders, which become words."""
    pieces = re.split(r"\{(index|id|string|type)\}", text)
    return [piece.upper() if place % 2 else piece for place, piece in enumerate(pieces) if piece]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))
