"""Products that we are compared with and that are no dependency of ours, in environments of their own.

Each is pinned down to the last package: `mcp_persist/requirements.txt` with hashes, `tmcp/package-lock.json`.
It is installed when it is first needed.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from scripts import node

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
INSTALL_SECONDS = 300.0


class PeerMissingError(Exception):
    """A peer could not be installed; the message says why."""


def versions() -> Mapping[str, str]:
    """What the lock files say."""
    python = (HERE / "mcp_persist" / "requirements.txt").read_text()
    packages = json.loads((HERE / "tmcp" / "package.json").read_text())["dependencies"]
    found = re.search(r"^mcp-persist==(\S+)", python, re.MULTILINE)
    return {"mcp-persist": found[1] if found else "unknown", **packages}


@cache
def mcp_persist() -> Path:
    """The Python that has mcp-persist (Python, sessions and events in Redis)."""
    locked = HERE / "mcp_persist" / "requirements.txt"
    environment = REPOSITORY / ".tools" / "peers" / "mcp_persist"
    python = environment / "bin" / "python"
    uv = os.environ.get("UV") or _run([sys.executable, REPOSITORY / "scripts" / "bootstrap.py"]).strip()
    if not python.exists():
        _run([uv, "venv", "--quiet", "--python", sys.executable, environment])
    _run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, locked])
    return python


@cache
def tmcp() -> tuple[Sequence[str], Mapping[str, str]]:
    """The command that runs tmcp's server, without its port, and its environment (TypeScript, in memory)."""
    folder = HERE / "tmcp"
    env = {**node.environment(), "npm_config_cache": str(REPOSITORY / ".tools" / "npm")}
    lock, stamp = (folder / "package-lock.json").read_text(), folder / "node_modules" / ".installed-from"
    if not stamp.exists() or stamp.read_text() != lock:  # npm asks the registry even when all is there
        _run([*node.npm(), "--prefix", folder, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], env)
        stamp.write_text(lock)
    return [*node.node(), str(folder / "server.mjs")], env


def _run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerMissingError(str(error)) from error
    if done.returncode != 0:
        raise PeerMissingError(f"{' '.join(map(str, command[:4]))}: {done.stderr.strip()[-400:]}")
    return done.stdout
