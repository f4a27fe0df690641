"""Both daemons, started as ``tandem …`` and as ``python -m …``: one is the other, to the last character."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("node", "gateway")


def run(folder: Path, *command: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TANDEM_", "GRPC_"))}
    environment |= {"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )


def ends(folder: Path, kind: str, *flags: str) -> tuple[int, str]:
    """Exit code and standard error of a daemon that cannot run; both ways in must agree, and print nothing else."""
    found = []
    for entry in ((kind,), ("tandem.cli", kind)):
        with run(folder, *entry, "--no-mdns", *flags) as process:
            out, err = process.communicate(timeout=60)
        assert out == ""
        lines = [line for line in err.splitlines() if not re.match(r"\d{4}-\d\d-\d\d .* (INFO|WARNING) ", line)]
        found.append((process.returncode, "\n".join(lines).replace(f"python -m {kind}", f"tandem {kind}")))
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_used_port_is_one_line(tmp_path: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = ends(tmp_path, kind, "--listen", address)
    assert (code, said) == (1, f"tandem: {address} is in use: another process listens there")


@pytest.mark.parametrize("kind", KINDS)
def test_an_address_of_another_machine_is_one_line(tmp_path: Path, kind: str) -> None:
    code, said = ends(tmp_path, kind, "--listen", "192.0.2.1:1", "--insecure")
    assert code == 2
    assert re.fullmatch(r"tandem: listen: cannot listen on 192\.0\.2\.1:1: [^\n]+", said)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_use_and_wrong_settings_are_one_line(tmp_path: Path, kind: str) -> None:
    expected = (2, f"tandem {kind}: unrecognized arguments: --bogus (see tandem {kind} --help)")
    assert ends(tmp_path, kind, "--bogus") == expected
    code, said = ends(tmp_path, kind, "--listen", "0.0.0.0:1")
    assert code == 2
    assert re.fullmatch(r"tandem: listen: 0\.0\.0\.0:1 is beyond this machine[^\n]+", said)


@pytest.mark.parametrize("entry", [("gateway",), ("tandem.cli", "gateway"), ("node",), ("tandem.cli", "node")])
def test_it_says_when_it_listens_and_ends_with_its_parent(tmp_path: Path, entry: tuple[str, ...]) -> None:
    with run(tmp_path, *entry, "--no-mdns", "--listen", "127.0.0.1:0", "--follow-stdin") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"ready (gateway|node=\S+ id=\S+) listen=127\.0\.0\.1:[1-9]\d*\n", line)
        out, err = process.communicate(timeout=60)  # closes its standard input
    assert (process.returncode, out) == (0, "")
    assert all(
        re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) [\w.]+: ", each) for each in err.splitlines()
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_when_it_is_asked(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    with run(tmp_path, kind, "--no-mdns", "--listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
