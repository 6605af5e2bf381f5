"""A small, strict MCP client on raw HTTP: it resumes as the specification says, and never starts anew."""

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from chaos.ledger import Diary
from chaos.wire import Answer, CutError, Patience, SilentError, exchange

VERSION: Final = "2025-11-25"
PATIENCE: Final = Patience()
BACKOFF_SECONDS: Final = (0.2, 0.8)
POST_SECONDS: Final = 60.0
BUSY: Final = frozenset({429, 502, 503})

_HEADERS: Final = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
}


@dataclass(slots=True)
class Connection:
    """One HTTP request.

    Attributes:
        backend: who answered it, by the proxy's word; empty if nobody did.
        served: it was answered with 200.
        silent: it was given up because nothing came.
    """

    began: float
    ended: float = math.inf
    backend: str = ""
    served: bool = False
    silent: bool = False


class RetryError(Exception):
    """Nothing was promised yet: the request may be sent again."""


class SessionLostError(Exception):
    """The server does not know the session any more: it was told as a violation, the client is done."""


class Client:
    """One session. What is asked of it runs in tasks of its own, so that answers never wait for readers."""

    def __init__(self, port: int, diary: Diary, rng: random.Random) -> None:
        self.diary = diary
        self.random = rng
        self.session: str | None = None
        self._port = port
        self._ids = 0
        self._asked: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def initialize(self) -> None:
        """Open the session: once in a client's life."""
        params: dict[str, Any] = {
            "protocolVersion": VERSION,
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "chaos", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": self.mint_id(), "method": "initialize", "params": params}
        async with self.request("POST", message) as answer:
            if answer.status != HTTPStatus.OK:
                raise RetryError(f"initialize was answered with {answer.status}")
            await answer.body()
            self.session = answer.headers["mcp-session-id"]
        await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def mint_id(self) -> int | str:
        """Numbers and strings by turns: `1` and `"1"` are two requests."""
        self._ids += 1
        return self._ids // 2 if self._ids % 2 else str(self._ids // 2)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        message: dict[str, Any] | None = None,
        last_event_id: str | None = None,
        remember: list[Connection] | None = None,
    ) -> AsyncGenerator[Answer]:
        """One HTTP request; `remember` is told how it went.

        Raises:
            SessionLostError: 404.
            CutError, SilentError: as `exchange` does.
        """
        connection = Connection(time.monotonic())
        if remember is not None:
            remember.append(connection)
        try:
            body = b"" if message is None else json.dumps(message).encode()
            async with exchange(self._port, method, self._headers(last_event_id), body, PATIENCE) as answer:
                connection.backend = answer.backend
                connection.served = answer.status == HTTPStatus.OK
                if answer.status == HTTPStatus.NOT_FOUND:
                    self.diary.blame("re-initialize", f"404 from {answer.backend}")
                    raise SessionLostError
                yield answer
        except SilentError:
            connection.silent = True
            self.diary.count("silent connections given up")
            raise
        finally:
            connection.ended = time.monotonic()

    async def post(self, message: dict[str, Any]) -> None:
        """Send a notification or an answer, again and again until it is taken."""
        deadline = time.monotonic() + POST_SECONDS
        while time.monotonic() < deadline:
            try:
                async with self.request("POST", message) as answer:
                    if answer.status == HTTPStatus.ACCEPTED:
                        self.diary.note(f"posted via {answer.backend}: {message}")
                        return
                    if answer.status not in BUSY:
                        self.diary.blame("wrong", f"{message} was answered with {answer.status}")
                        return
                    self.diary.note(f"post: {answer.status} from {answer.backend}")
            except (CutError, SilentError) as error:
                self.diary.note(f"post: {error}")
            self.diary.count("retried connections")
            await self.back_off()
        self.diary.blame("unanswered", f"{message} could not be sent")

    async def back_off(self) -> None:
        await asyncio.sleep(self.random.uniform(*BACKOFF_SECONDS))

    def answer_question(self, message: dict[str, Any], *, again: bool = False) -> None:
        """Answer a request of the server, in a task of its own. Each may come once.

        `again`: events were lost, so that it may be asked a second time; it is answered a second time.
        """
        request_id = str(message["id"])
        if request_id in self._asked and not again:
            self.diary.blame("doubled", f"the question {request_id} came twice")
            return
        self._asked.add(request_id)
        if message["method"] != "elicitation/create":
            self.diary.blame("wrong", f"an unknown question: {message}")
            return
        said = {"action": "accept", "content": {"name": message["params"]["message"]}}
        self.spawn(self._answer, {"jsonrpc": "2.0", "id": message["id"], "result": said})

    def spawn(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a task that ends with this client at the latest."""
        task = asyncio.create_task(self._guarded(job, *args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, seconds: float) -> None:
        """Wait until all that was spawned is done."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(self.random.uniform(0, 0.5))
        await self.post(message)
        self.diary.count("questions answered")

    async def _guarded(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await job(*args)
        except SessionLostError:
            pass
        except Exception as error:  # noqa: BLE001 - a bug of the rig must not pass for a good run
            self.diary.blame("wrong", f"the rig itself failed: {error!r}")

    def _headers(self, last_event_id: str | None) -> dict[str, str]:
        headers = dict(_HEADERS)
        if self.session is not None:
            headers |= {"mcp-session-id": self.session, "mcp-protocol-version": VERSION}
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        return headers
