"""Who in this process subscribed to which topic, and where they are in the table `bus`."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from holdfast.backends.sqlite.calls import Call, Worker
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.errors import StoreError

__all__ = ["Topics"]

logger = logging.getLogger("holdfast.backends.sqlite")

_PAGE: Final = 100


class Topics:
    """Reads the bus when told to, and hands out what is new. Nobody subscribed: it does not read."""

    def __init__(self, reader: Worker[Snapshot]) -> None:
        self._reader = reader
        self._subscribers: dict[bytes, list[Callable[[bytes], None]]] = {}
        self._after: int | None = None
        self._reading = False
        self._again = False

    @asynccontextmanager
    async def subscribed(self, topic: bytes, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        """Call `receive` with each message of `topic` that is published from now on."""
        receivers = self._subscribers.setdefault(topic, [])
        receivers.append(receive)
        try:
            if self._after is None:
                newest = await self._reader.call(_newest)
                self._after = newest if self._after is None else min(newest, self._after)
                self.look()  # a hint that came meanwhile was in vain
            yield
        finally:
            receivers.remove(receive)
            if not receivers and self._subscribers.get(topic) is receivers:
                del self._subscribers[topic]
            if not self._subscribers:
                self._after = None

    def look(self) -> None:
        """There may be something new."""
        if self._after is None:
            return
        if self._reading:
            self._again = True
            return
        self._reading, self._again = True, False
        call = Call[Snapshot](partial(_messages, after=self._after), lambda: self._deliver(call))
        try:
            self._reader.submit(call)
        except StoreError:  # the next hint, or the next look in a while
            self._reading = False

    def _deliver(self, call: Call[Snapshot]) -> None:
        self._reading = False
        if call.error is not None or self._after is None:
            return
        messages: list[tuple[int, bytes, bytes]] = call.result
        for number, topic, message in messages:
            self._after = number
            for receive in tuple(self._subscribers.get(topic, ())):
                try:
                    receive(message)
                except Exception:  # the border of the fan-out
                    logger.exception("a subscriber raised")
        if self._again or len(messages) == _PAGE:
            self.look()


def _newest(snapshot: Snapshot) -> int:
    (newest,) = snapshot.connection.execute("SELECT max(id) FROM bus").fetchone()
    return newest or 0


def _messages(snapshot: Snapshot, after: int) -> list[tuple[int, bytes, bytes]]:
    return snapshot.connection.execute(
        "SELECT id, topic, message FROM bus WHERE id > ? ORDER BY id LIMIT ?", (after, _PAGE)
    ).fetchall()
