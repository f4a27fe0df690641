"""What memory each hostile schema takes: measured in a process of its own, forked off one that has all loaded.

    python hostile_memory.py [FORMAT...]

A line for each format and schema, and for answers in JSON: the schema, the growth of the process's peak in MiB, the
seconds, and whether it was refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from typing import Any

from demo_tokens import END, allowed, compiled, compiler, tokens
from hostile_schemas import ANSWERS, TOOLS

from node.serving.grammar.calls import Grammar, GrammarWriter, Tool
from node.serving.grammar.compiler import Compiled, GrammarCompiler, Validate
from parsers import get_format
from tandem.errors import InvalidRequestError, TandemError

STEPS = 30
"""Tokens that are taken under the grammar."""


async def compile_tool(made: GrammarCompiler, key: str, schema: Any) -> Compiled:
    def write(validate: Validate) -> Grammar:
        writer = GrammarWriter(get_format(key), made.tokens.markers, validate)
        return writer.required([Tool("f", json.dumps(schema))], several=False, thought=False)

    return await made.compile(key, write, param="tools")


def peak() -> int:
    """The most memory that was ever in use, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measured(key: str, schema: Any) -> dict[str, Any]:
    """A request for the schema, up to some tokens of its answer. ``key``: a format, or empty for an answer in JSON."""
    before, begin, refused = peak(), time.monotonic(), ""
    with compiler() as made:
        work = compile_tool(made, key, schema) if key else compiled(made, f"start: %json {json.dumps(schema)}")
        try:
            under = made.matcher(asyncio.run(work))
            for _ in range(STEPS):
                may = allowed(under.mask())
                if END in may or not may or not under.consume(min(may)):
                    break
        except InvalidRequestError as error:
            refused = error.message
        except TandemError as error:
            refused = f"later: {error.message}"
    return {"MiB": peak() - before, "seconds": round(time.monotonic() - begin, 2), "refused": refused[:100]}


def main() -> None:
    """Measure all of them."""
    cases = [(key, name, schema) for key in sys.argv[1:] for name, schema in TOOLS.items()]
    cases += [("", name, schema) for name, schema in ANSWERS.items()]
    assert tokens().engine
    for key, name, schema in cases:
        child = os.fork()
        if not child:
            try:
                print(json.dumps({"format": key, "schema": name, **measured(key, schema)}), flush=True)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"format": key, "schema": name, "status": status}), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
