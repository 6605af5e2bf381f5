"""What a backend author provides, and what the suites share."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from secrets import token_hex
from typing import Any, ClassVar, Final

import anyio

from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import Event, Position, SessionFacts, SessionId, StreamId

__all__ = [
    "HOSTILE_IDS",
    "PATIENCE_SECONDS",
    "PAYLOADS",
    "Heard",
    "StoreUnderTest",
    "new_facts",
    "new_session",
    "new_stream",
    "read_all",
    "start_of",
    "top_of",
]

PATIENCE_SECONDS: Final = 10.0
"""What takes longer is taken for lost. Only a failing test waits so long."""

HOSTILE_IDS: Final = (
    "",
    "*",
    "?",
    "[a-z]*",
    "'",
    '"',
    "`$(id)`",
    "a b",
    "a\nb",
    "a\r\nDEL b",
    "a\0b",
    "{",
    "}",
    "{a}",
    "}{",
    "mcp:session:*",
    "../../etc/passwd",
    "%s%n{0}",
    "-",
    "0",
    "é漢🦊",
    "x" * 8192,
)
"""What a client may send as an id."""

PAYLOADS: Final = (
    b'{"jsonrpc":"2.0","method":"x"}',
    b'{ "a" : 1.0 ,\r\n\t"b":[ 1e400, -0, 12345678901234567890 ] }',
    '{"text":"é漢🦊\\u0000\\ud83e"}'.encode(),
    b"\x00\x01\xff\xfe not utf-8 \x80",
    b"\n\r\n\ndata: x\n\n",
    b" ",
    b"",
    b"OK",
    b"0",
    b"x" * 2**20,
)
"""A store is no judge of what it stores."""


class StoreUnderTest(ABC):
    """One empty store, as the suites see it. Subclass it: only `replica` must be written.

    Attributes:
        max_events: the bound that the backends were built with.
        max_bytes: the same for bytes of payload per session.
        short_seconds: a time to live that a test can afford to wait for.
        can_fail_over: whether `fail_over` works.
    """

    max_events: ClassVar[int] = 64
    max_bytes: ClassVar[int] = 4 * 2**20
    short_seconds: ClassVar[float] = 1.0
    can_fail_over: ClassVar[bool] = False

    @abstractmethod
    def replica(self) -> Backend:
        """One more replica on this store, not entered yet."""

    async def advance(self, seconds: float) -> None:
        """Let time pass, also in the store."""
        await anyio.sleep(seconds)

    async def fail_over(self, keep: int | None) -> None:
        """Let another server take over that knows only the first `keep` offsets of each log; None: all."""
        raise NotImplementedError

    @asynccontextmanager
    async def replicas(self, number: int) -> AsyncGenerator[tuple[Backend, ...]]:
        """Several connected replicas."""
        async with AsyncExitStack() as stack:
            yield tuple([await stack.enter_async_context(self.replica()) for _ in range(number)])


class Heard:
    """A callback that remembers its calls, and lets a test wait for them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._news = anyio.Event()

    def __call__(self, *arguments: Any) -> None:
        """Be called."""
        self.calls.append(arguments)
        self._news.set()

    async def until(self, enough: Callable[[list[tuple[Any, ...]]], bool]) -> None:
        """Return once the calls are `enough`.

        Raises:
            TimeoutError: they never were.
        """
        with anyio.fail_after(PATIENCE_SECONDS):
            while not enough(self.calls):
                self._news = anyio.Event()
                await self._news.wait()

    async def told(self, *arguments: Any) -> None:
        """Return once there was this very call."""
        await self.until(lambda calls: arguments in calls)

    async def once(self) -> None:
        """Return once there was a call."""
        await self.until(bool)


def new_facts(**changes: Any) -> SessionFacts:
    """Facts of a session that nobody has opened."""
    facts = SessionFacts(
        id=SessionId(f"s-{token_hex(16)}"),
        owner=None,
        protocol_version="2025-11-25",
        client=b'{"protocolVersion":"2025-11-25"}',
        ttl_seconds=60.0,
    )
    return replace(facts, **changes)


async def new_session(backend: Backend, **changes: Any) -> SessionId:
    """Open a session."""
    facts = new_facts(**changes)
    await backend.sessions.open(facts, limit=None)
    return facts.id


async def new_stream(backend: Backend, session: SessionId) -> StreamId:
    """Open a request stream."""
    stream = StreamId(f"r-{token_hex(8)}")
    await backend.log.open_stream(session, stream, 1)
    return stream


async def top_of(backend: Backend, session: SessionId) -> Position:
    """The present top of a session's log."""
    (renewed,) = await backend.log.renew([session])
    assert renewed is not None, "the session is gone"
    return renewed.top


async def start_of(backend: Backend, session: SessionId) -> Position:
    """The position before the first event of a session's log, in its present life."""
    return Position((await top_of(backend, session)).epoch, 0)


async def read_all(
    backend: Backend, session: SessionId, stream: StreamId, *, after: Position | None = None, limit: int = 100
) -> list[Event]:
    """All events of a stream after a position (None: the first), page by page."""
    cursor = await start_of(backend, session) if after is None else after
    events: list[Event] = []
    for _ in range(1000):
        page = await backend.log.read(session, stream, after=cursor, limit=limit)
        assert len(page.events) <= limit, "a page is longer than asked for"
        events += page.events
        cursor = page.cursor
        if page.complete:
            return events
    raise AssertionError("the pages never came to an end")
