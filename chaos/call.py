"""One `tools/call` from its POST to its one answer, over as many connections as that takes."""

import asyncio
import itertools
import json
import random
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from chaos.client import BUSY, Client, Connection, RetryError
from chaos.ledger import Kind, StreamLog
from chaos.wire import Answer, CutError, SilentError

UNANSWERED_SECONDS: Final = 60.0
CANCELLED: Final = -32800
HANG_UP_SHARE: Final = 0.15


class HangUpError(Exception):
    """The client itself drops the connection, to come back to it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be called, and what the client does meanwhile.

    Attributes:
        mark: names this very call in all that it says; nothing else has it.
        hang_ups: after so many messages the client drops the connection.
        cancel_at: after so many messages the client cancels; 0: at once, None: never.
    """

    tool: str
    mark: str
    arguments: dict[str, Any]
    hang_ups: tuple[int, ...] = ()
    cancel_at: int | None = None


class Call:
    """One attempt at a job. What it became stands in `answer`, and how far it counted in `numbers`."""

    def __init__(self, client: Client, job: Job) -> None:
        self.job = job
        self.request_id = client.mint_id()
        self.log = StreamLog(client.diary, f"{job.tool} {job.mark}")
        self.answer: dict[str, Any] | None = None
        self.answered_at = 0.0
        self.backend = ""
        self.numbers = 0
        self.started = time.monotonic()
        self.cancelled = False
        self.connections: list[Connection] = []
        self._client = client
        self._diary = client.diary
        self._hang_ups = list(job.hang_ups)

    async def run(self) -> None:
        """Call, and resume until there is an answer.

        Raises:
            RetryError: the connection broke before the server had given an id: nothing was promised.
        """
        self._diary.note(f"call {self.job} id {self.request_id!r}")
        if self.job.cancel_at == 0:
            self._cancel()
        try:
            async with asyncio.timeout(UNANSWERED_SECONDS):
                await self._until_answered()
        except TimeoutError:
            self._diary.blame("unanswered", f"{self.job.mark} got no answer (ran on {self.backend})")

    async def _until_answered(self) -> None:
        await self._connect("POST", self._message())
        while self.answer is None:
            if self.log.last_id is None:
                raise RetryError
            await asyncio.sleep(self.log.retry_ms / 1000)
            self._diary.count("resumed")
            await self._connect("GET", None)

    def away(self, since: float) -> list[tuple[float, float]]:
        """When the client was without a stream after it had once come back to it: it was hit again."""
        served = [each for each in self.connections if each.served and each.began >= since]
        return [(one.ended, other.began) for one, other in itertools.pairwise(served)]

    def _message(self) -> dict[str, Any]:
        params = {
            "name": self.job.tool,
            "arguments": self.job.arguments,
            "_meta": {"progressToken": self.job.mark},
        }
        return {"jsonrpc": "2.0", "id": self.request_id, "method": "tools/call", "params": params}

    async def _connect(self, method: str, message: dict[str, Any] | None) -> None:
        """Read one HTTP answer as far as it goes."""
        mark = self.job.mark
        try:
            async with self._client.request(method, message, self.log.last_id, self.connections) as answer:
                self._diary.note(f"{mark} {method} {self.log.last_id}: {answer.status} from {answer.backend}")
                self.backend = self.backend or answer.backend
                await self._read(answer)
        except HangUpError:
            self._diary.note(f"{mark}: hung up on purpose")
            self._diary.count("hung up on purpose")
            return
        except (CutError, SilentError) as error:
            self._diary.note(f"{mark}: {type(error).__name__}: {error}")
            self._diary.count("connections cut" if self.answer is None else "cut after the answer")
        if self.answer is None and self.log.last_id is None:
            self._diary.count("retried connections")

    async def _read(self, answer: Answer) -> None:
        if answer.status in BUSY:
            return
        if answer.status == HTTPStatus.BAD_REQUEST and self.log.last_id is not None and self._may_be_gone():
            self.log.refused((await answer.body()).decode(errors="replace"))
            raise RetryError
        if answer.status != HTTPStatus.OK:
            body = (await answer.body()).decode(errors="replace")
            kind: Kind = "wrong" if self.log.last_id is None else "lost"
            self._diary.blame(kind, f"{self.job.mark}: {answer.status} from {answer.backend}: {body}")
            raise RetryError
        self.log.connected()
        if answer.is_stream:
            async for event in answer.events():
                if self.log.take(event):
                    self._take(json.loads(event.data))
                    self._maybe_hang_up()
        else:
            self._take(await answer.json())

    def _take(self, message: dict[str, Any]) -> None:
        if self.answer is not None:
            self._diary.blame("doubled", f"{self.job.mark}: after its answer came {message}")
        elif "method" not in message:
            self._take_answer(message)
        elif "id" in message:
            self._client.answer_question(message, again=bool(self.log.told_gap_at))
        else:
            self._take_notification(message)
        if self.job.cancel_at == self.numbers and not self.cancelled and self.answer is None:
            self._cancel()

    def _take_answer(self, message: dict[str, Any]) -> None:
        if message.get("id") != self.request_id or type(message.get("id")) is not type(self.request_id):
            self._diary.blame("wrong", f"{self.job.mark}: an answer to {message.get('id')!r}: {message}")
            return
        self.answer = message
        self.answered_at = time.monotonic()

    def _take_notification(self, message: dict[str, Any]) -> None:
        mark, number = told(message)
        if message["method"] == "notifications/cancelled":
            return  # the replica that had asked is gone, and its question with it
        if mark != self.job.mark:
            self._diary.blame("wrong", f"{self.job.mark}: a message of something else: {message}")
            return
        self.numbers = check_number(self._client, mark, self.numbers, number, self.log)

    def _may_be_gone(self) -> bool:
        """Whether a failover may have lost the whole stream: what only the old master had."""
        return self._diary.tally.store.gap_events() > 0

    def _maybe_hang_up(self) -> None:
        if self._hang_ups and self.answer is None and self.numbers >= self._hang_ups[0]:
            self._hang_ups.pop(0)
            raise HangUpError

    def _cancel(self) -> None:
        self.cancelled = True
        params = {"requestId": self.request_id, "reason": "chaos"}
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        self._client.spawn(self._client.post, message)


def told(message: dict[str, Any]) -> tuple[str, int]:
    """Mark and number of a progress or log message of ours."""
    params: dict[str, Any] = message.get("params") or {}
    if message["method"] == "notifications/progress":
        return str(params.get("message")), int(params.get("progress", 0))
    data: dict[str, Any] = params["data"] if isinstance(params.get("data"), dict) else {}
    return str(data.get("mark")), int(data.get("number", 0))


def check_number(client: Client, mark: str, before: int, number: int, log: StreamLog) -> int:
    """Hold a wrong number against the server, and return from where to count on."""
    if number == before + 1:
        return number
    store = client.diary.tally.store
    if log.told_gap_at and before + 1 < number <= before + 1 + store.gap_events():
        client.diary.count("events in told gaps", number - before - 1)
        return number
    if log.told_gap_at and number == before and store.again():
        client.diary.count("doubled, as a failover may")
        return number
    kind: Kind = "lost" if number > before + 1 else "doubled" if number == before else "order"
    client.diary.blame(kind, f"{mark}: number {number} came after {before}")
    return max(number, before)


def choose_hang_ups(rng: random.Random, events: int) -> tuple[int, ...]:
    """Where a client drops the connection of a call: mostly never."""
    if rng.random() > HANG_UP_SHARE:
        return ()
    return tuple(sorted(rng.sample(range(1, events + 1), min(events, rng.choice((1, 1, 2))))))
