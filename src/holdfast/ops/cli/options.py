"""What can be said on the command line of `holdfast serve`, and the help that explains it."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.ops.cli.settings import add_store_options, setting, store_options

__all__ = ["LOCAL_HOSTS", "LOG_LEVELS", "ServeOptions", "add_serve_arguments", "serve_options"]

LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")

_EDGE: Final = ("resumable", "ttl_seconds", "max_sessions", "keepalive_seconds")
"""Names of `EdgeOptions`. What is not given stays as the server itself has set it."""

_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """A checked command line. `add_serve_arguments` says what each option means.

    Attributes:
        edge: those of `holdfast.attach` that were given.
        store_options: those of `holdfast.open_store` that were given.
    """

    target: str
    host: str = "127.0.0.1"
    port: int = 8000
    path: str = "/mcp"
    store: str | None = None
    workers: int = 1
    log_level: str = "info"
    access_log: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    drain_seconds: int = 10
    drain_pause_seconds: int | None = None
    gc_tuning: bool = True
    edge: Mapping[str, Any] = field(default_factory=dict[str, Any])
    store_options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect, so that a foreign Host or Origin is an attack."""
        return self.host in LOCAL_HOSTS

    @property
    def debug(self) -> bool:
        """Whether errors come with their tracebacks."""
        return self.log_level == "debug"


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `holdfast serve`."""
    parser.add_argument(
        "target",
        metavar="MODULE[:ATTRIBUTE]",
        help="what to serve: an MCPServer, a low-level Server, a FastMCP object, or a function (sync or "
        "async) without arguments that returns one. MODULE is a module (package.module, looked for in this "
        "folder too) or a file (path/to/server.py). Without ATTRIBUTE: the first of mcp, server and app that "
        "is one",
    )
    _add_address(parser)
    _add_sessions(parser)
    add_store_options(parser)
    _add_process(parser)


def serve_options(arguments: argparse.Namespace) -> ServeOptions:
    """The options from what argparse understood."""
    given = vars(arguments)
    edge: dict[str, Any] = {name: given[name] for name in _EDGE if name in given}
    known: dict[str, Any] = {n: given[n] for n in ServeOptions.__dataclass_fields__ if n in given}
    known["allowed_hosts"] = tuple(known["allowed_hosts"])
    known["allowed_origins"] = tuple(known["allowed_origins"])
    return ServeOptions(**known, edge=edge, store_options=store_options(arguments))


def _add_address(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument(
        "--port",
        type=_port,
        default=8000,
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    group.add_argument(
        "--path", type=_path, default="/mcp", help="URL path of the MCP endpoint (default: %(default)s)"
    )
    group.add_argument(
        "--allowed-host",
        dest="allowed_hosts",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="serve requests with this Host header, and refuse foreign ones; without a port: on any. May be "
        "repeated. A server on a local address always serves local names and refuses all others unless they "
        "are listed here; on any other address nothing is refused until a host is listed. '*' serves every "
        "host",
    )
    group.add_argument(
        "--allowed-origin",
        dest="allowed_origins",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages from this origin in, such as https://app.example.com; ':*' at its end stands for "
        "any port. May be repeated. On an address that is not local it needs --allowed-host",
    )


def _add_sessions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "sessions", "What is not given here stays as the server itself sets it."
    )
    group.add_argument(
        "--store",
        metavar="URL",
        help="where sessions are kept. sqlite:///PATH: a file, for the processes of one machine (sqlite:// "
        "alone: in your folder for state, named after MODULE and its folder). redis://HOST, rediss:// (TLS), "
        "valkey:// or valkeys:// (TLS): for any number of machines. memory://: for one process, and gone "
        "with it. Default: the environment's HOLDFAST_STORE, then REDIS_URL, then sqlite://. A password is "
        "safer in the environment: others can see command lines",
    )
    group.add_argument(
        "--session-ttl",
        dest="ttl_seconds",
        type=setting("ttl_seconds"),
        default=argparse.SUPPRESS,
        metavar="SECONDS",
        help="a session ends after this long without any activity of its client (default: the environment's "
        "SESSION_TTL, then what the server was told, then 3600)",
    )
    group.add_argument(
        "--max-sessions",
        type=_limit,
        default=argparse.SUPPRESS,
        metavar="N",
        help="the most sessions open at once over all replicas, or 'none'; the next one is refused with 503",
    )
    group.add_argument(
        "--resumable",
        choices=("auto", "always", "never"),
        default=argparse.SUPPRESS,
        help="which requests are answered with a stream that any replica can resume: those that take time or "
        "emit something (auto), all, or none",
    )
    group.add_argument(
        "--keepalive",
        dest="keepalive_seconds",
        type=_positive,
        default=argparse.SUPPRESS,
        metavar="SECONDS",
        help="send a comment on a stream that was silent for this long, so that nothing between cuts it off",
    )


def _add_process(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("process")
    group.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes that share the port; more than one needs a store that they can share "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--drain-seconds",
        type=_whole,
        default=10,
        metavar="SECONDS",
        help="on SIGTERM, how long requests in flight may take to finish (default: %(default)s)",
    )
    group.add_argument(
        "--drain-pause",
        dest="drain_pause_seconds",
        type=_whole,
        default=None,
        metavar="SECONDS",
        help="on SIGTERM, how long everything is served as before while /health/ready says 503, so that a "
        "balancer can notice (default: 5 if somebody asks for /health/ready, else 0)",
    )
    group.add_argument(
        "--no-gc-tuning",
        dest="gc_tuning",
        action="store_false",
        help="leave Python's garbage collector as it is; otherwise what was loaded at the start is frozen, "
        "and collections become rarer, which makes slow answers rare",
    )
    group.add_argument(
        "--log-level",
        type=str.lower,
        choices=LOG_LEVELS,
        default="info",
        help="(default: %(default)s); debug also shows tracebacks of errors at the start",
    )
    group.add_argument("--access-log", action="store_true", help="log every request")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:6]) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 0 to {_LAST_PORT}")
    return int(text)


def _path(text: str) -> str:
    if not text.startswith("/") or any(c in text for c in "?#{} "):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a path that begins with '/', such as /mcp")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 1024:  # noqa: PLR2004 - beyond is a typo
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number from 1 to 1024")
    return int(text)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):  # noqa: PLR2004 - eleven days are enough
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of seconds, 0 or more")
    return int(text)


def _limit(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not (text.isascii() and text.isdigit()) or int(text[:19]) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0, or 'none'")
    return int(text)


def _positive(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of seconds above 0")
    return seconds
