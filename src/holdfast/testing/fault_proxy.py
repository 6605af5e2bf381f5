"""The network between a server and its store, as bad as you like it: every fault of TCP, on demand.

    async with FaultProxy("127.0.0.1", 6379) as proxy:
        store = f"redis://127.0.0.1:{proxy.port}/0"
        proxy.delay(0.2)  # each way, from now on
        proxy.black_hole()  # nothing arrives any more, in either direction, and nobody is told
        proxy.half_open()  # the server's ends are closed; the clients still believe in theirs
        proxy.heal()  # what was held back arrives late, as TCP would have it
        proxy.reset()  # RST on every connection
        proxy.cut_after(17, "client")  # the next answer is torn after its 17th byte
        proxy.lose_reply_to(b"XADD")  # carried out, and nobody learns of it
        proxy.refuse()  # connections are refused until `heal`

Faults that last apply to connections that are made later, too. It runs on asyncio.
"""

import asyncio
import socket
import struct
from collections import deque
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, cast

from typing_extensions import override

__all__ = ["FaultProxy", "Toward"]

Toward: TypeAlias = Literal["client", "server"]
"""Which way bytes go."""

BOTH: Final[tuple[Toward, Toward]] = ("client", "server")
CLOSE_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 5.0
HELD_BYTES: Final = 1024 * 1024
"""So much is delayed in each direction of a connection; then its sender is not read from until it is less."""

_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: close by RST


class FaultProxy:
    """Passes bytes on to a server for as long as the `async with` block runs, unless it is told otherwise.

    Attributes:
        server: host and port of the server; may be changed, for connections to come.
        cuts: how many connections `cut_after` and `lose_reply_to` have cut.
    """

    def __init__(self, server_host: str, server_port: int, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.server = (server_host, server_port)
        self.cuts = 0
        self._address = (host, port)
        self._listener: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._delay_seconds = 0.0
        self._held: frozenset[Toward] = frozenset()
        self._half_open = False
        self._left: dict[Toward, int] = {}
        self._marker: bytes | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._listen()
        self._address = (self._address[0], self.port)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and hang up on everybody."""
        self._stop_listening()
        connecting = [pipe.connecting for pipe in self._pipes]
        for pipe in list(self._pipes):
            pipe.abort()
        if connecting:
            await asyncio.wait(connecting, timeout=CLOSE_SECONDS)

    @property
    def port(self) -> int:
        """The port that clients connect to.

        Raises:
            RuntimeError: the proxy is not running.
        """
        if self._listener is None or not self._listener.sockets:
            raise RuntimeError("the proxy listens only inside `async with`, and not while it refuses")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._pipes)

    def delay(self, seconds: float) -> None:
        """From now on bytes arrive so much later, in both directions and in order."""
        self._delay_seconds = seconds

    def black_hole(self, *toward: Toward) -> None:
        """From now on nothing arrives, in the given directions or in both. New connections are accepted."""
        self._held = frozenset(toward or BOTH)
        self._apply()

    def half_open(self) -> None:
        """The server loses its ends of all connections; the clients are not told, and never answered."""
        self._half_open = True
        for pipe in list(self._pipes):
            pipe.forget_server()

    def refuse(self) -> None:
        """Refuse connections. Those that are open stay."""
        self._stop_listening()

    def reset(self) -> None:
        """Break every connection by RST, at both ends."""
        for pipe in list(self._pipes):
            pipe.abort(by_reset=True)

    def cut_after(self, count: int, toward: Toward) -> None:
        """Break the connection that carries the byte number `count` from now in a direction, behind it."""
        self._left[toward] = count

    def lose_reply_to(self, marker: bytes) -> None:
        """Break the connection when the server has answered the next request that contains `marker`."""
        self._marker = marker

    async def heal(self) -> None:
        """Pass everything on again. What a black hole held back arrives; who is half open is reset."""
        self._delay_seconds, self._held, self._half_open = 0.0, frozenset(), False
        self._left.clear()
        self._marker = None
        for pipe in [pipe for pipe in self._pipes if pipe.forgotten]:
            pipe.abort(by_reset=True)
        self._apply()
        if self._listener is None:
            await self._listen()

    async def _listen(self) -> None:
        host, port = self._address
        self._listener = await asyncio.get_running_loop().create_server(lambda: _Pipe(self).near, host, port)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _apply(self) -> None:
        for pipe in self._pipes:
            pipe.hold(self._held)

    # What pipes ask.

    def joined(self, pipe: "_Pipe") -> None:
        """A client has connected."""
        self._pipes.add(pipe)
        pipe.hold(self._held)
        if self._half_open:
            pipe.forget_server()

    def left(self, pipe: "_Pipe") -> None:
        """A connection is over."""
        self._pipes.discard(pipe)

    @property
    def delay_seconds(self) -> float:
        """How much later bytes arrive."""
        return self._delay_seconds

    def marks(self, data: bytes) -> bool:
        """Whether the reply to this is to be lost."""
        if self._marker is None or self._marker not in data:
            return False
        self._marker = None
        return True

    def cut(self, data: bytes, toward: Toward) -> bytes | None:
        """What is still passed on before the connection is cut; None: it is not."""
        left = self._left.get(toward)
        if left is None:
            return None
        if len(data) < left:
            self._left[toward] = left - len(data)
            return None
        del self._left[toward]
        self.cuts += 1
        return data[:left]


class _Pipe:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.forgotten = False
        self.doomed = False
        self.near = _End(self, "server")
        self.far = _End(self, "client")
        self.connecting: asyncio.Task[None]

    def opened(self) -> None:
        self.connecting = asyncio.get_running_loop().create_task(self._connect())
        self.proxy.joined(self)

    async def _connect(self) -> None:
        if self.forgotten:
            return
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().create_connection(lambda: self.far, *self.proxy.server)
        except OSError:  # a TimeoutError is one
            self.abort(by_reset=True)
        else:
            self.near.adjust()
            self.far.adjust()

    def ended(self, end: "_End") -> None:
        """One side hung up: so does the other, unless it is not to know."""
        if not (self.forgotten and end is self.far):
            self.abort()

    def hold(self, held: frozenset[Toward]) -> None:
        for end in (self.near, self.far):
            end.held = end.toward in held
            end.adjust()

    def forget_server(self) -> None:
        self.forgotten = True
        self.far.abort(by_reset=False)

    def abort(self, *, by_reset: bool = False) -> None:
        self.connecting.cancel()
        self.near.abort(by_reset=by_reset)
        self.far.abort(by_reset=by_reset)
        self.proxy.left(self)

    def pass_on(self, data: bytes, toward: Toward) -> None:
        """What one end has read, on its way to the other."""
        if self.forgotten:
            return
        if toward == "client" and self.doomed:
            self.proxy.cuts += 1
            self.abort()
            return
        if toward == "server" and self.proxy.marks(data):
            self.doomed = True
        last = self.proxy.cut(data, toward)
        target = self.far if toward == "server" else self.near
        target.write(data if last is None else last)
        if last is not None:
            target.abort_when_written()


class _End(asyncio.Protocol):
    """One of the two sockets. `toward`: which way go the bytes that are read from it."""

    def __init__(self, pipe: _Pipe, toward: Toward) -> None:
        self.pipe = pipe
        self.toward: Toward = toward
        self.held = False
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._delayed = 0
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self is self.pipe.near:
            self.pipe.opened()
        self.adjust()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.pipe.ended(self)

    @override
    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        seconds = self.pipe.proxy.delay_seconds
        if not seconds and not self._on_the_way:
            self.pipe.pass_on(data, self.toward)
            return
        # A queue and one timer: timers of the same moment run in any order, and bytes must not.
        self._on_the_way.append((loop.time() + seconds, data))
        self._delayed += len(data)
        self.adjust()
        if self._timer is None:
            self._timer = loop.call_at(self._on_the_way[0][0], self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        _, data = self._on_the_way.popleft()
        self._delayed -= len(data)
        self.pipe.pass_on(data, self.toward)
        self.adjust()
        if self._on_the_way:
            self._timer = loop.call_at(self._on_the_way[0][0], self._arrive)

    @override
    def pause_writing(self) -> None:
        self._other.throttle(full=True)

    @override
    def resume_writing(self) -> None:
        self._other.throttle(full=False)

    @property
    def _other(self) -> "_End":
        return self.pipe.far if self is self.pipe.near else self.pipe.near

    def throttle(self, *, full: bool) -> None:
        self._full = full
        self.adjust()

    def adjust(self) -> None:
        """Read, or leave what comes to the kernel."""
        if self._transport is None or self._transport.is_closing():
            return
        idle = self._full or self.held or self._delayed > HELD_BYTES
        if idle or not (self._other.connected or self.pipe.forgotten):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    @property
    def connected(self) -> bool:
        return self._transport is not None

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def abort(self, *, by_reset: bool) -> None:
        if self._transport is None:
            return
        if by_reset:
            plain: socket.socket = self._transport.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def abort_when_written(self) -> None:
        """Close: what was written last still arrives, and then the connection is gone at both ends."""
        if self._transport is not None:
            self._transport.close()
