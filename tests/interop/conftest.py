"""Clients written in another language, installed once from the lock."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from scripts.node import environment, node, npm

HERE = Path(__file__).parent
INSTALL_SECONDS = 300


@pytest.fixture(scope="session")
def installed() -> Path:
    """The folder of the clients, with what `package-lock.json` names below it."""
    locked = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    modules, stamp = HERE / "node_modules", HERE / "node_modules" / ".installed-from"
    if not (stamp.exists() and stamp.read_text() == locked):
        with (HERE / ".installing").open("w") as lock:
            _lock(lock.fileno())  # several test processes come to this at once
            if not (stamp.exists() and stamp.read_text() == locked):
                command = [*npm(), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
                subprocess.run(command, cwd=HERE, env=environment(), check=True, timeout=INSTALL_SECONDS)
                stamp.write_text(locked)
    assert modules.is_dir()
    return HERE


def _lock(number: int) -> None:
    import fcntl  # noqa: PLC0415 - not on Windows

    fcntl.flock(number, fcntl.LOCK_EX)


@pytest.fixture(scope="session")
def node_command() -> tuple[list[str], dict[str, str]]:
    """How to run a script, and its environment."""
    return node(), {**environment(), "NO_COLOR": "1", "HOME": os.environ.get("HOME", "/tmp")}  # noqa: S108


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # over sockets, so with uvicorn
