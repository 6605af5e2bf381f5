"""One RESP3 connection: commands leave in batches, replies are matched in order. No retries here.

A reply is always a value: an error of the server and the loss of the connection are returned, not raised. So
a reply that nobody waits for any more (a cancelled caller, `post`) can never become an unhandled exception,
and it still takes its place in the order.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import hiredis
from typing_extensions import override

__all__ = ["Argument", "Connection", "ConnectionLost"]

Argument: TypeAlias = str | bytes | int

# Its stub takes a tuple of exactly one argument, and says nothing about the result.
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", getattr(hiredis, "pack_command"))  # noqa: B009

_NOTHING: Final = object()
# Answers to (UN)SUBSCRIBE arrive as pushes, in the order of the commands: each is the reply to one channel.
_REPLY_PUSHES: Final = frozenset({b"subscribe", b"unsubscribe"})


class ConnectionLost(Exception):
    """The connection ended with the command in flight: it is not known whether it was carried out."""


class Connection(asyncio.Protocol):
    """The wire.

    Attributes:
        lost: set when the connection ended.
        reason: why, then.
    """

    def __init__(
        self,
        *,
        ping_seconds: float,
        silence_seconds: float,
        max_in_flight: int,
        max_unsent_bytes: int,
        on_push: Callable[[list[Any]], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._room_waiters: deque[asyncio.Future[None]] = deque()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._ping_seconds = ping_seconds
        self._silence_seconds = silence_seconds
        self._max_in_flight = max_in_flight
        self._max_unsent_bytes = max_unsent_bytes
        self._on_push = on_push
        self._last_sign = self._loop.time()
        self._watchdog: asyncio.TimerHandle | None = None
        self.lost: Final = asyncio.Event()
        self.reason = ""

    # -- what asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._max_unsent_bytes)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch_again()

    @override
    def data_received(self, data: bytes) -> None:
        self._last_sign = self._loop.time()
        try:
            self._reader.feed(data)
            self._take_replies()
        except (hiredis.HiredisError, IndexError) as exc:
            self.abort(f"the server does not speak RESP3: {exc!r}")
        if self._room_waiters:
            self._let_in()

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._let_in()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.reason = self.reason or (str(exc) if exc else "closed by the server")
        if self._watchdog is not None:
            self._watchdog.cancel()
        self.lost.set()
        self._unsent.clear()
        self._transport = None
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(ConnectionLost(self.reason))
        self._let_in()

    # -- what the client calls

    @property
    def open(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None

    @property
    def has_room(self) -> bool:
        """Whether one more command stays within the bounds."""
        return not self._paused and len(self._waiting) < self._max_in_flight

    def room(self) -> asyncio.Future[None]:
        """Done when there may be room again, or the connection is lost. Cancel it to leave the queue."""
        waiter = self._loop.create_future()
        if self._transport is None:
            waiter.set_result(None)
        else:
            self._room_waiters.append(waiter)
        return waiter

    def send(self, *command: Argument) -> asyncio.Future[Any]:
        """Send one command with this tick's batch; the future becomes its reply, whatever it is."""
        reply = self._loop.create_future()
        if self._transport is None:
            reply.set_result(ConnectionLost(self.reason))
            return reply
        packed = _pack(command)
        if not self._waiting:
            self._last_sign = self._loop.time()
        self._waiting.append(reply)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        return reply

    def post(self, *command: Argument) -> None:
        """Send one command whose reply nobody wants."""
        _ = self.send(*command)

    def abort(self, reason: str) -> None:
        """End the connection now; everything in flight is answered with `ConnectionLost`."""
        self.reason = self.reason or reason
        if self._transport is not None:
            self._transport.abort()

    # -- inside

    def _take_replies(self) -> None:
        gets, waiting = self._reader.gets, self._waiting
        while (reply := gets()) is not _NOTHING:
            if type(reply) is hiredis.PushNotification and reply[0] not in _REPLY_PUSHES:
                if self._on_push is not None:
                    self._on_push(reply)
                continue
            future = waiting.popleft()
            if not future.done():
                future.set_result(reply)

    def _flush(self) -> None:
        unsent = self._unsent
        if self._transport is not None and unsent:
            self._unsent = []
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _let_in(self) -> None:
        free = len(self._room_waiters)
        if self._transport is not None:
            free = 0 if self._paused else min(free, self._max_in_flight - len(self._waiting))
        while free > 0 and self._room_waiters:
            waiter = self._room_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _watch_again(self) -> None:
        due = self._loop.time() + self._ping_seconds
        self._watchdog = self._loop.call_at(due, self._watch, due)

    def _watch(self, due: float) -> None:
        """Probe; give up when an answer is due and nothing at all has come for too long."""
        now = self._loop.time()
        if now - due > self._ping_seconds / 2:
            self._last_sign = now  # it was this process that stood still: the answers may lie in the socket
        elif self._waiting and now - self._last_sign > self._silence_seconds:
            self.abort(f"no answer for {self._silence_seconds:g} s")
            return
        self.post("PING")
        self._watch_again()
