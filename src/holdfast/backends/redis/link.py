"""From an endpoint to a connection that is ready for work: TCP, TLS, HELLO, SELECT, scripts, incarnation."""

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import hiredis

from holdfast.backends.redis.connection import Argument, Connection, ConnectionLost
from holdfast.backends.redis.location import Endpoint
from holdfast.backends.redis.options import RedisOptions
from holdfast.backends.redis.scripts import Script
from holdfast.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = [
    "UNKNOWN_INCARNATION",
    "Link",
    "check_server",
    "error_code",
    "is_passing",
    "open_link",
    "reset_warnings",
]

logger = logging.getLogger("holdfast.backends.redis")

UNKNOWN_INCARNATION: Final = b"?"
_OLDEST: Final = (6, 2)
_IS: Final = {"standalone": "a server by itself", "sentinel": "a Sentinel", "cluster": "a node of a cluster"}
_WRITE: Final = {
    "standalone": "redis://host:port is right",
    "sentinel": "redis-sentinel://host:port/service is right",
    "cluster": "redis-cluster://host:port is right",
}
# The server is there and will do it soon, or another one will.
_PASSING: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOREPLICAS", "READONLY", "TRYAGAIN", "UNBLOCKED"}
)


def error_code(error: Exception) -> str:
    """The first word of a server's error, e.g. `NOSCRIPT`. Redis 6.2 hides that of a command in a script."""
    text = str(error)
    if text.startswith("ERR Error running script") and (inner := re.search(r": -([A-Z]+) ", text)):
        return inner[1]
    return text.partition(" ")[0]


def is_passing(error: Exception) -> bool:
    """Whether the command was not carried out and may succeed in a moment."""
    return error_code(error) in _PASSING


class Link:
    """A connection after its handshake.

    Attributes:
        endpoint: the server at the other end.
        connection: the wire.
        incarnation: the life of the master at the other end.
        channels: what is subscribed on it.
    """

    __slots__ = ("_loading", "channels", "connection", "endpoint", "incarnation")

    def __init__(self, endpoint: Endpoint, connection: Connection, incarnation: bytes) -> None:
        self.endpoint: Final = endpoint
        self.connection: Final = connection
        self.incarnation: Final = incarnation
        self.channels: Final[set[bytes]] = set()
        self._loading: dict[str, asyncio.Future[Any]] = {}

    def run(
        self, script: Script, keys: Sequence[str | bytes], args: Sequence[Argument]
    ) -> asyncio.Future[Any]:
        """Send a script; its first argument is the incarnation of the master that will run it."""
        return self.connection.send("EVALSHA", script.sha, len(keys), *keys, self.incarnation, *args)

    def load(self, script: Script) -> asyncio.Future[Any]:
        """Load a script that the server has forgotten; once for all that ask at the same time.

        Each of them has a future of its own: one that is cancelled must not cancel the others.
        """
        loading = self._loading.get(script.sha)
        if loading is None or loading.done():
            loading = self._loading[script.sha] = self.connection.send("SCRIPT", "LOAD", script.source)
        return asyncio.shield(loading)


async def open_link(
    endpoint: Endpoint,
    options: RedisOptions,
    *,
    name: str,
    scripts: Sequence[Script],
    on_push: Callable[[list[Any]], None] | None = None,
) -> Link:
    """Connect and shake hands.

    Raises:
        StoreUnavailable: not reachable, not in time, or not ready yet.
        StoreRefused: it answered, and it will not do.
    """
    timeout = options.connect_timeout
    connection: Connection | None = None
    try:
        async with asyncio.timeout(timeout):
            connection = await _connect(endpoint, options, on_push)
            return await _shake_hands(connection, endpoint, name, scripts)
    except BaseException as exc:
        if connection is not None:
            connection.abort("the handshake failed")
        if isinstance(exc, TimeoutError):
            why = "; is that port without TLS?" if endpoint.tls else ""
            raise StoreUnavailable(f"{endpoint} did not answer within {timeout:g} s{why}") from exc
        if isinstance(exc, ssl.SSLCertVerificationError):
            raise StoreRefused(f"the certificate of {endpoint} is not trusted: {exc.verify_message}") from exc
        if isinstance(exc, ssl.SSLError):
            raise StoreRefused(f"{endpoint} refused TLS, is that port without TLS? ({exc.reason})") from exc
        if isinstance(exc, OSError | UnicodeError):
            raise StoreUnavailable(f"cannot connect to {endpoint}: {exc}") from exc
        raise


async def _connect(
    endpoint: Endpoint, options: RedisOptions, on_push: Callable[[list[Any]], None] | None
) -> Connection:
    def build() -> Connection:
        return Connection(
            ping_seconds=options.ping_seconds,
            silence_seconds=options.silence_seconds,
            max_in_flight=options.max_in_flight,
            max_unsent_bytes=options.max_unsent_bytes,
            on_push=on_push,
        )

    loop = asyncio.get_running_loop()
    if endpoint.path is not None:
        _, connection = await loop.create_unix_connection(build, endpoint.path)
    else:
        _, connection = await loop.create_connection(build, endpoint.host, endpoint.port, ssl=endpoint.tls)
    return connection


async def _shake_hands(
    connection: Connection, endpoint: Endpoint, name: str, scripts: Sequence[Script]
) -> Link:
    hello: list[Argument] = ["HELLO", 3]
    if endpoint.password is not None:
        hello += ["AUTH", endpoint.username or "default", endpoint.password]
    hello += ["SETNAME", name]
    greeting = _checked(await connection.send(*hello), endpoint, "HELLO 3")
    check_server(greeting, endpoint)
    if endpoint.mode == "sentinel":
        return Link(endpoint, connection, UNKNOWN_INCARNATION)
    replies = [("INFO server", connection.send("INFO", "server"))]
    if endpoint.db:
        replies.append((f"SELECT {endpoint.db}", connection.send("SELECT", endpoint.db)))
    replies += [
        (f"SCRIPT LOAD {script.name}", connection.send("SCRIPT", "LOAD", script.source)) for script in scripts
    ]
    info, *others = [(what, await reply) for what, reply in replies]
    for what, reply in others:
        _checked(reply, endpoint, what)
    return Link(endpoint, connection, _incarnation(info[1], endpoint))


def _checked(reply: Any, endpoint: Endpoint, what: str) -> Any:
    """The reply, or the error that it is."""
    if isinstance(reply, ConnectionLost):
        why = "" if endpoint.tls or endpoint.path else "; if it wants TLS, the scheme is rediss"
        raise StoreUnavailable(f"{endpoint} hung up during the handshake: {reply}{why}")
    if isinstance(reply, hiredis.ReplyError):
        raise _refusal(reply, endpoint, what)
    return reply


def _refusal(reply: Exception, endpoint: Endpoint, what: str) -> StoreError:
    if is_passing(reply):
        return StoreUnavailable(f"{endpoint} is not ready: {reply}")
    code = error_code(reply)
    if what.startswith("HELLO") and code in {"ERR", "NOPROTO"}:
        return StoreRefused(f"{endpoint} does not know HELLO 3 ({reply}); Redis >= 6.2 or Valkey is needed")
    sentinel = endpoint.mode == "sentinel"
    hints = {
        "NOAUTH": "it wants a password: write it into the URL as "
        + ("?sentinel_password=password" if sentinel else "redis://:password@host"),
        "WRONGPASS": ("sentinel_username or sentinel_password" if sentinel else "user or password")
        + " in the URL is wrong",
        "NOPERM": "the ACL user lacks a permission",
    }
    hint = f" ({hints[code]})" if code in hints else ""
    return StoreRefused(f"{endpoint} refused {what}: {reply}{hint}")


def check_server(greeting: Mapping[bytes, Any], endpoint: Endpoint) -> None:
    """Raise if what a server says of itself in HELLO will not do."""
    version = greeting[b"version"].decode()
    server = greeting[b"server"].decode()
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST:
        raise StoreRefused(f"{endpoint} is {server} {version}; Redis >= 6.2 or Valkey is needed")
    mode = greeting[b"mode"].decode()
    if mode != endpoint.mode and mode in _IS:  # what others call themselves says nothing
        raise StoreRefused(
            f"{endpoint} is {_IS[mode]}, and the URL says {_IS[endpoint.mode]}: {_WRITE[mode]}"
        )
    if endpoint.mode == "standalone" and greeting[b"role"] != b"master":
        raise StoreUnavailable(f"{endpoint} is a {greeting[b'role'].decode()}, not a master")


_warned: Final[set[str]] = set()


def reset_warnings() -> None:
    """Say again what is said once per process."""
    _warned.clear()


def _incarnation(info: Any, endpoint: Endpoint) -> bytes:
    if isinstance(info, ConnectionLost):
        raise StoreUnavailable(f"{endpoint} hung up during the handshake: {info}")
    text: bytes = info.encode() if isinstance(info, str) else info if isinstance(info, bytes) else b""
    if match := re.search(rb"^run_id:(\w+)", text, re.MULTILINE):
        return match[1]
    if "INFO" not in _warned:  # one line per process, not one per connection
        _warned.add("INFO")
        logger.warning(
            "%s does not permit INFO: data lost in a restart or failover cannot be recognised", endpoint
        )
    return UNKNOWN_INCARNATION
