"""`tools/call` of an asynchronous echo tool: sessions in each store, against the peers' own transports."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.line import ERROR, Bench, Cell, Goal, Line, Medians, Ratio, Row
from benchmarks.processes import DidNotStartError, Serving, serving
from tests.servers import start_server

SERVERS = Path(__file__).parent / "servers"
LOAD_SECONDS = 90.0
CONNECTIONS = (16, 1, 256)
SDK, PERSIST, TMCP = "mcp SDK, memory", "mcp-persist, Redis", "tmcp on Node, memory"


@dataclass(frozen=True, slots=True)
class Server:
    """Something that serves the echo tool at /mcp, or why it cannot."""

    name: str
    command: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    path: str = "/mcp"
    missing: str = ""


def ours(name: str, store: str, *options: str, tool: str = "sdk.py") -> Server:
    """`holdfast serve`, as its users start it."""
    serve = [
        "-m",
        "holdfast.ops.cli",
        "serve",
        str(SERVERS / tool),
        "--port",
        "{port}",
        "--log-level",
        "error",
    ]
    return Server(f"Holdfast, {name}", [sys.executable, *serve, "--store", store, *options])


def theirs(name: str, module: str, *arguments: str) -> Server:
    """One of `benchmarks.servers`."""
    return Server(name, [sys.executable, "-m", f"benchmarks.servers.{module}", "{port}", *arguments])


def mcp_persist(redis: str) -> Server:
    """Sessions and events in Redis, in Python."""
    server = peers.HERE / "mcp_persist" / "server.py"
    url = f"{redis}?max_connections=1000"  # with redis-py's own 100 it answers 500 at 256 connections
    try:
        return Server(PERSIST, [str(peers.mcp_persist()), str(server), "{port}", url], path="/mcp/")
    except peers.PeerMissingError as error:
        return Server(PERSIST, missing=str(error))


def tmcp() -> Server:
    """Sessions in memory, on Node."""
    try:
        command, env = peers.tmcp()
    except peers.PeerMissingError as error:
        return Server(TMCP, missing=str(error))
    return Server(TMCP, [*command, "{port}"], env)


@contextlib.contextmanager
def servers() -> Generator[Sequence[Server]]:
    """All that are compared, with the stores that they need."""
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(start_server("valkey")).url
        redis = stack.enter_context(start_server("redis")).url
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
        yield [
            theirs(SDK, "sdk"),
            ours("memory", "memory://"),
            ours("SQLite", f"sqlite://{folder}/sessions.db"),
            ours("Valkey", valkey),
            ours("Redis", redis),
            theirs("FastMCP, memory", "fast_mcp"),
            ours("Valkey, under FastMCP", valkey, tool="fast_mcp.py"),
            theirs("mcp SDK, memory, JSON answers", "sdk", "json"),
            mcp_persist(redis),
            tmcp(),
            theirs("(no work: a fixed answer)", "bare"),
        ]


def started(server: Server) -> AbstractContextManager[Serving]:
    """The server's process.

    Raises:
        DidNotStartError: there is none.
    """
    if server.missing:
        raise DidNotStartError(server.missing)
    return serving(server.command, env=server.env)


def load(server: Serving, path: str, connections: int, seconds: float) -> Mapping[str, Cell]:
    """One run of the load."""
    arguments = [str(part) for part in (server.port, server.pid, path, connections, seconds)]
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + LOAD_SECONDS, check=False
    )
    if done.returncode != 0:
        return {ERROR: f"{(done.stderr.strip() or 'no output').splitlines()[-1][:300]}"}
    figures: Mapping[str, Cell] = json.loads(done.stdout)
    return figures


def measure(bench: Bench) -> Iterable[Row]:
    """Each server in turn, and on each all numbers of connections."""
    with servers() as compared:
        for server in bench.interleave(compared):
            try:
                with started(server) as process:
                    for count in CONNECTIONS:
                        figures = load(process, server.path, count, bench.seconds)
                        yield {"connections": count, "server": server.name, **figures}
            except DidNotStartError as error:
                for count in CONNECTIONS:
                    yield {"connections": count, "server": server.name, ERROR: f"did not start: {error}"}


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9 and issue 3."""
    at: Mapping[str, Cell] = {"connections": 16}
    sdk = {**at, "server": SDK}
    for store, wanted in (("memory", 3.5), ("Valkey", 3.0), ("Redis", 3.0)):
        own = {**at, "server": f"Holdfast, {store}"}
        yield Goal(
            f"calls/s, {store}, as a multiple of the SDK's", wanted, medians.ratio("calls/s", own, sdk)
        )
        late = medians.ratio("p99 ms", own, sdk)
        yield Goal(f"p99, {store}, as a part of the SDK's", 0.25, late, at_least=False)
    redis = {**at, "server": "Holdfast, Redis"}
    for name, peer, wanted in (
        ("mcp-persist's", PERSIST, 8.0),
        ("tmcp's in memory on Node (aim)", TMCP, 1.0),
    ):
        reached = medians.ratio("calls/s", redis, {**at, "server": peer})
        yield Goal(f"calls/s, Redis, as a multiple of {name}", wanted, reached)


LINE = Line(
    name="call",
    keys=("connections", "server"),
    figures={"calls/s": 0, "p50 ms": 2, "p99 ms": 2, "CPU ms/call": 3, "load CPU %": 0},
    measure=measure,
    ratio=Ratio("ratio", "calls/s", "server", SDK),
    goals=goals,
)
