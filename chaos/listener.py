"""The standalone stream of one session, from the first GET to the last, over all that is done to it."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from chaos.call import check_number, told
from chaos.client import BUSY, Client
from chaos.ledger import StreamLog
from chaos.wire import Answer, CutError, SilentError

KEPT_EVENTS: Final = 200
COMPLETE_SECONDS: Final = 40.0


@dataclass(slots=True)
class Batch:
    """What one call of `tell` sends. `sent`: how many it did send, once that is certain."""

    read: int = 0
    sent: int | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def complete(self) -> bool:
        return self.sent is None or self.read >= self.sent


class Listener:
    """Reads the standalone stream, and counts what is in it."""

    def __init__(self, client: Client) -> None:
        self.log = StreamLog(client.diary, "standalone", KEPT_EVENTS)
        self.ready = asyncio.Event()
        self._client = client
        self._diary = client.diary
        self._batches: dict[str, Batch] = {}
        self._grown = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                async with self._client.request("GET", last_event_id=self.log.last_id) as answer:
                    self._diary.note(f"GET {self.log.last_id}: {answer.status} from {answer.backend}")
                    await self._read(answer)
            except (CutError, SilentError) as error:
                self._diary.note(f"GET: {type(error).__name__}: {error}")
                self._diary.count("connections cut")
            self._diary.count("resumed" if self.log.last_id else "retried connections")
            await asyncio.sleep(self.log.retry_ms / 1000)

    def sent(self, mark: str, count: int, began: float) -> None:
        """A call that began then says that it sent so many messages."""
        batch = self._batch(mark)
        batch.sent, batch.began = count, began

    async def complete(self) -> None:
        """Wait until all that is known to have been sent was read."""
        try:
            async with asyncio.timeout(COMPLETE_SECONDS):
                while not all(self._settled(batch) for batch in self._batches.values()):
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            for mark, batch in self._batches.items():
                if not self._settled(batch):
                    self._diary.blame("lost", f"standalone {mark}: read {batch.read} of {batch.sent}")

    def _settled(self, batch: Batch) -> bool:
        """Whether all of it was read, or its end may lie in a gap that was told."""
        if batch.complete or batch.sent is None:
            return True
        missing = batch.sent - batch.read
        return self.log.told_gap_at > batch.began and missing <= self._diary.tally.store.gap_events()

    async def _read(self, answer: Answer) -> None:
        if answer.status in BUSY:
            return
        if answer.status != HTTPStatus.OK:
            body = (await answer.body()).decode(errors="replace")
            self._diary.blame(
                "lost", f"GET {self.log.last_id}: {answer.status} from {answer.backend}: {body}"
            )
            return
        self.log.connected()
        async for event in answer.events():
            fresh = self.log.take(event)
            if self.log.last_id is not None:
                self.ready.set()
            if fresh:
                self._take(json.loads(event.data))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message and "method" in message:
            self._client.answer_question(message, again=bool(self.log.told_gap_at))
        elif "method" not in message:
            self._diary.blame("wrong", f"an answer on the standalone stream: {message}")
        elif message["method"] != "notifications/cancelled":
            mark, number = told(message)
            batch = self._batch(mark)
            batch.read = check_number(self._client, f"standalone {mark}", batch.read, number, self.log)
            self._grown.set()

    def _batch(self, mark: str) -> Batch:
        return self._batches.setdefault(mark, Batch())
