"""Where the clients live: outside the tree, made once, each at a pinned version, never in the project's environment."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED_CLIENTS = ROOT.parent / "shared" / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem" / "clients"
INSTALL_SECONDS = 300.0


def shared_client(name: str) -> Path:
    """A client program that lies beside the checkout; skips the test where it does not."""
    path = SHARED_CLIENTS / name
    if not path.exists():
        pytest.skip(f"there is no {name} in ../shared/clients")
    return path


def npm_folder(package: str, version: str) -> Path:
    """A folder whose ``node_modules`` has the package; skips the test where there is no npm."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no node and npm on this machine")

    def install(folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        install_with(npm, "install", "--no-audit", "--no-fund", f"{package}@{version}", cwd=folder)

    return made_once(f"npm-{package.replace('/', '+')}-{version}", install)


def python_with(name: str, *requirements: str, alone: str = "") -> Path:
    """The interpreter of a virtual environment with these packages, and one without what it says that it needs."""

    def install(folder: Path) -> None:
        install_with(sys.executable, "-m", "venv", str(folder), cwd=folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        install_with(*pip, *requirements, cwd=folder)
        if alone:
            install_with(*pip, "--no-deps", alone, cwd=folder)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return made_once(f"python{version}-{name}", install) / "bin" / "python"


def made_once(name: str, install: Callable[[Path], None]) -> Path:
    """A folder in the cache that ``install`` has filled, now or in an earlier run; runs at the same time wait."""
    folder, done = CACHE / name, CACHE / f"{name}.done"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder)
            done.touch()
    return folder


def install_with(*command: str, cwd: Path) -> None:
    """Runs a command of an installation; fails with what it printed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
