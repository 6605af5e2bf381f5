"""The harshest load balancer there is: each *request*, not each connection, goes to the next backend.

What works behind `RoundRobinProxy` works behind any balancer, because none scatters the requests of one
client wider. It is an HTTP/1.1 reverse proxy for tests and demonstrations: it streams bodies both ways as
they come, opens a new connection to the backend for every request, hangs up on the backend when the client
goes away and on the client when the backend dies in the middle of an answer, and remembers which backend got
what.

    async with RoundRobinProxy([("127.0.0.1", 8001), ("127.0.0.1", 8002)]) as proxy:
        ...  # talk to proxy.url
        assert not proxy.repeats()

The same from a shell: `python -m holdfast.testing.round_robin --listen 8000 127.0.0.1:8001 127.0.0.1:8002`.
It runs on asyncio, and needs h11, which uvicorn brings along. What h11 tidies up, the backends do not see:
blanks around header values are gone, and names are in lower case.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import h11
from typing_extensions import override

__all__ = ["Backend", "Exchange", "RoundRobinProxy"]

logger = logging.getLogger(__name__)

Backend = tuple[str, int]
"""Host and port."""

CHUNK_BYTES: Final = 64 * 1024
HEAD_LIMIT_BYTES: Final = 4 * 1024 * 1024  # servers under test have limits of their own to show
EARLY_LIMIT_BYTES: Final = 64 * 1024
LINGER_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 5.0

_HOP_BY_HOP: Final = frozenset(
    [b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"]
)
_BROKEN: Final = (OSError, h11.ProtocolError)


@dataclass(slots=True)
class Exchange:
    """One request, and what became of it.

    Attributes:
        method: As the client wrote it.
        path: The request target, with its query.
        backend: `host:port` of the backend that was chosen, or of the last one tried.
        status: What the client was answered; None until then, and for ever if it did not wait.
    """

    method: str
    path: str
    backend: str = ""
    status: int | None = None

    @override
    def __str__(self) -> str:
        """One line for a log."""
        return f"{self.backend or '-'} {self.status or '-'} {self.method} {self.path}"


class RoundRobinProxy:
    """Hands every request to the next backend, for as long as the `async with` block runs.

    Args:
        backends: Where to send requests, in this order, round and round.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        retry_connect: Go on to the next backend when one does not accept the connection, as balancers do.
            With False the client gets a 502 at once. What was sent to a backend is never sent to another.
        connect_timeout_seconds: How long a backend may take to accept a connection.
        log_limit: How many exchanges are remembered; after that the oldest is forgotten.
    """

    def __init__(
        self,
        backends: Iterable[Backend],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        retry_connect: bool = True,
        connect_timeout_seconds: float = 5.0,
        log_limit: int = 100_000,
    ) -> None:
        self._rotation: deque[Backend] = deque(backends)
        self._address = (host, port)
        self._retry_connect = retry_connect
        self._connect_timeout_seconds = connect_timeout_seconds
        self._log: deque[Exchange] = deque(maxlen=log_limit)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        host, port = self._address
        self._server = await asyncio.start_server(self._serve_connection, host, port, limit=CHUNK_BYTES)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and hang up on everybody."""
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=CLOSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), CLOSE_SECONDS)

    @property
    def port(self) -> int:
        """The port that clients connect to.

        Raises:
            RuntimeError: The proxy is not running.
        """
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the proxy listens only inside `async with`")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Where clients connect to, without a path."""
        return f"http://{self._address[0]}:{self.port}"

    @property
    def backends(self) -> Sequence[Backend]:
        """The present backends; the next request goes to the first."""
        return tuple(self._rotation)

    def add(self, host: str, port: int) -> None:
        """Let a backend take part, from its next turn on."""
        self._rotation.append((host, port))

    def remove(self, host: str, port: int) -> None:
        """Send no further request to a backend; those under way go on.

        Raises:
            ValueError: It is not among the backends.
        """
        if (host, port) not in self._rotation:
            raise ValueError(f"no backend {host}:{port}; there are {list(self._rotation)}")
        self._rotation.remove((host, port))

    @property
    def log(self) -> Sequence[Exchange]:
        """Every exchange in the order in which the requests arrived."""
        return tuple(self._log)

    def clear_log(self) -> None:
        """Forget the exchanges so far."""
        self._log.clear()

    def repeats(self) -> list[tuple[Exchange, Exchange]]:
        """The pairs of consecutive requests that went to one and the same backend; none, if all is well."""
        return [pair for pair in itertools.pairwise(self._log) if pair[0].backend == pair[1].backend]

    def summary(self) -> str:
        """How many requests each backend got, and how they were answered."""
        return "\n".join(self._summary_lines())

    def _summary_lines(self) -> Iterator[str]:
        repeats = len(self.repeats())
        yield f"{len(self._log)} requests, {repeats} of them to the same backend as the one before"
        for backend, count in sorted(Counter(each.backend for each in self._log).items()):
            statuses = Counter(each.status for each in self._log if each.backend == backend)
            listed = ", ".join(f"{status or 'unanswered'}: {n}" for status, n in statuses.most_common())
            yield f"  {backend or 'nobody'}  {count} requests ({listed})"

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request after the other from one client."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        client = _Peer(h11.SERVER, reader, writer)
        try:
            # An idle connection is kept until the client or the proxy goes; nothing else waits for it.
            while await self._serve_request(client):
                client.http.start_next_cycle()
        except _BROKEN as error:
            await _refuse_if_possible(client, error)
        except asyncio.CancelledError:  # the proxy closes; raised further, asyncio before 3.12 would complain
            client.abort()
        finally:
            await client.close()

    async def _serve_request(self, client: "_Peer") -> bool:
        """Pass one request on. True if the client may send another one on this connection."""
        request = await client.next_event()
        if not isinstance(request, h11.Request):
            return False
        exchange = Exchange(request.method.decode(), request.target.decode("latin-1"))
        try:
            upstream = await self._connect(exchange)
            if upstream is None:
                await _answer_502(client, exchange, "the backend does not accept connections")
            else:
                await _pass_on(request, client, upstream, exchange)
        finally:  # one that broke off, or that the end of the proxy cuts short, has its line too
            logger.info("%s", exchange)
        return await _hear_out(client)

    async def _connect(self, exchange: Exchange) -> "_Peer | None":
        """Choose the next backend and connect to it; the choice is logged before anything can interfere."""
        self._log.append(exchange)
        tried: set[Backend] = set()
        # Others rotate too while this one connects: what was tried is remembered, not counted.
        while untried := [backend for backend in self._rotation if backend not in tried]:
            if tried and not self._retry_connect:
                break
            host, port = backend = untried[0]
            tried.add(backend)
            self._rotation.remove(backend)
            self._rotation.append(backend)
            exchange.backend = f"{host}:{port}"
            with contextlib.suppress(OSError, TimeoutError):
                connecting = asyncio.open_connection(host, port, limit=CHUNK_BYTES)
                streams = await asyncio.wait_for(connecting, self._connect_timeout_seconds)
                return _Peer(h11.CLIENT, *streams)
        return None


class _Peer:
    """One end of the passage: HTTP by h11, bytes by asyncio."""

    def __init__(
        self,
        role: type[h11.CLIENT] | type[h11.SERVER],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.http = h11.Connection(role, max_incomplete_event_size=HEAD_LIMIT_BYTES)
        self._reader = reader
        self._writer = writer

    async def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next piece of the message; never NEED_DATA, whatever the type says."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self._reader.read(CHUNK_BYTES))

    async def send(self, event: h11.Event) -> None:
        if data := self.http.send(event):
            self._writer.write(data)
            await self._writer.drain()

    async def wait_until_gone(self) -> None:
        """Wait for the end of the connection; a next request that comes early waits, if it is not huge."""
        while len(self.http.trailing_data[0]) < EARLY_LIMIT_BYTES:
            data = await self._reader.read(CHUNK_BYTES)
            if not data:
                return
            self.http.receive_data(data)

    async def close(self) -> None:
        """Send what is still to be sent, then hang up."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), CLOSE_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Hang up at once."""
        self._writer.transport.abort()


async def _pass_on(request: h11.Request, client: _Peer, upstream: _Peer, exchange: Exchange) -> None:
    """Move the request one way and the answer the other, until the answer ends or either side goes away."""
    upload = asyncio.create_task(_upload(request, client, upstream))
    download = asyncio.create_task(_download(client, upstream, exchange))
    try:
        await asyncio.wait({upload, download}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        upload.cancel()
        download.cancel()
        upstream.abort()
        outcomes = await asyncio.gather(upload, download, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _upload(request: h11.Request, client: _Peer, upstream: _Peer) -> None:
    """Pass the request on, and return when the client is gone."""
    head = h11.Request(
        method=request.method,
        target=request.target,
        headers=[*_end_to_end(request.headers), (b"connection", b"close")],
    )
    await _send_if_wanted(upstream, head)
    while client.http.their_state is h11.SEND_BODY:
        event = await client.next_event()
        if isinstance(event, h11.Data | h11.EndOfMessage):
            await _send_if_wanted(upstream, event)
    await client.wait_until_gone()


async def _send_if_wanted(upstream: _Peer, event: h11.Event) -> None:
    """Send, unless the backend stopped reading: perhaps it has answered, and the answer is what counts."""
    with contextlib.suppress(*_BROKEN):
        await upstream.send(event)


async def _download(client: _Peer, upstream: _Peer, exchange: Exchange) -> None:
    """Pass the answer on, every piece when it comes."""
    try:
        head = await _response_head(upstream)
    except _BROKEN as error:
        await _answer_502(client, exchange, f"the backend hung up without an answer ({error})")
        return
    exchange.status = head.status_code
    headers = [*_end_to_end(head.headers), (b"x-holdfast-backend", exchange.backend.encode())]
    await client.send(h11.Response(status_code=head.status_code, headers=headers, reason=head.reason))
    while client.http.our_state is h11.SEND_BODY:
        event = await upstream.next_event()
        if isinstance(event, h11.Data | h11.EndOfMessage):
            await client.send(event)


async def _response_head(upstream: _Peer) -> h11.Response:
    while True:
        event = await upstream.next_event()
        if isinstance(event, h11.Response):
            return event
        if isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("end of file")


async def _hear_out(client: _Peer) -> bool:
    """Take the rest of a request that was answered early, lest the answer be lost. True if all is done."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while client.http.our_state is h11.DONE and client.http.their_state is h11.SEND_BODY:
                await client.next_event()
    return client.http.our_state is h11.DONE and client.http.their_state is h11.DONE


async def _answer_502(client: _Peer, exchange: Exchange, reason: str) -> None:
    exchange.status = 502
    await _answer_json(client, 502, {"error": reason, "backend": exchange.backend}, exchange.backend)


async def _refuse_if_possible(client: _Peer, error: Exception) -> None:
    """Tell a client that does not speak HTTP so; for any other trouble it is too late, or there is nobody."""
    if isinstance(error, h11.RemoteProtocolError) and client.http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
        with contextlib.suppress(*_BROKEN):
            await _answer_json(client, error.error_status_hint, {"error": str(error)}, "")


async def _answer_json(client: _Peer, status: int, body: dict[str, str], backend: str) -> None:
    payload = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(payload)).encode()),
        (b"x-holdfast-backend", backend.encode()),
    ]
    await client.send(h11.Response(status_code=status, headers=headers))
    await client.send(h11.Data(data=payload))
    await client.send(h11.EndOfMessage())


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in _HOP_BY_HOP]


def _parse_backend(text: str) -> Backend:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host, int(port)


async def _run(backends: Sequence[Backend], port: int, *, retry_connect: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with RoundRobinProxy(backends, port=port, retry_connect=retry_connect) as proxy:
        logger.info("%s goes round %s", proxy.url, ", ".join(f"{host}:{port}" for host, port in backends))
        await stop.wait()
    logger.info("%s", proxy.summary())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a proxy until it is interrupted, and say where each request went."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.round_robin", description=main.__doc__)
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="default: a free one")
    parser.add_argument("--no-retry", action="store_true", help="502 at once when a backend does not accept")
    parser.add_argument("backends", nargs="+", type=_parse_backend, metavar="HOST:PORT")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(_run(options.backends, options.listen, retry_connect=not options.no_retry))


if __name__ == "__main__":
    main()
