"""``python -m gateway`` as a person starts it."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from gateway_harness import Gateway
from scripted_cluster import ScriptedNode

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}


async def launch(folder: Path, *flags: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *flags,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**ENVIRONMENT, "XDG_CONFIG_HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=folder,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_until_told_to_stop(head: ScriptedNode, tmp_path: Path, number: signal.Signals) -> None:
    process = await launch(tmp_path, "--listen", "127.0.0.1:0", "--node", head.address, "--api-key", "k")
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while not (found := re.search(rb"listens on (http://\S+)", await process.stderr.readline())):
            pass
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer k"}) as session,
            session.get(found[1].decode() + "/v1/models") as response,
        ):
            assert response.status == 200
        process.send_signal(number)
        _, rest = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in rest


async def test_what_cannot_be_is_one_line(gateway: Gateway, tmp_path: Path) -> None:
    taken = gateway.base.removeprefix("http://")
    for flags in (["--listen", taken], ["--listen", "0.0.0.0:0"], ["--listen", "nowhere"]):
        process = await launch(tmp_path, "--no-mdns", *flags)
        async with asyncio.timeout(20):
            output, errors = await process.communicate()
        assert process.returncode == 2
        assert output == b""
        lines = [line for line in errors.decode().splitlines() if not re.match(r"\d{4}-", line)]
        assert len(lines) == 1
        assert flags[1] in lines[0]
