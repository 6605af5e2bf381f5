"""A process of its own on a store's file, driven by lines of JSON.

Each line is `[id, operation, arguments...]`, each answer `[id, result]`. `python worker.py PATH OPTIONS`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.errors import HoldfastError
from holdfast.sessions.types import STANDALONE, AppendKey, Position, SessionFacts, SessionId


class Worker:
    def __init__(self, backend: SqliteBackend) -> None:
        self.backend = backend

    async def open(self, session: str) -> None:
        facts = SessionFacts(SessionId(session), None, "2025-11-25", b"{}", 3600.0)
        await self.backend.sessions.open(facts, limit=None)

    async def append(self, session: str, text: str, writer: str | None = None, counter: int = 0) -> list[Any]:
        key = None if writer is None else AppendKey(writer, counter)
        event = await self.backend.log.append(SessionId(session), STANDALONE, text.encode(), key=key)
        return [event.position.epoch, event.position.offset, event.previous]

    async def read(self, session: str, epoch: str, offset: int) -> list[Any]:
        after = Position(epoch, offset)
        page = await self.backend.log.read(SessionId(session), STANDALONE, after=after, limit=10_000)
        return [[event.position.offset, event.payload.decode()] for event in page.events]

    async def top(self, session: str) -> list[Any] | None:
        (there,) = await self.backend.log.renew([SessionId(session)])
        return None if there is None else list(asdict(there.top).values())

    async def put(self, session: str, request: str, answer: str) -> bool:
        return await self.backend.inbox.put(SessionId(session), request, answer.encode())

    async def publish(self, topic: str, message: str) -> None:
        await self.backend.bus.publish(topic, message.encode())


def next_line() -> str:
    return sys.stdin.readline()


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def serve(path: str, options: dict[str, Any]) -> None:
    async with (
        SqliteBackend(Path(path), options=SqliteOptions(**options)) as backend,
        anyio.create_task_group() as tasks,
    ):
        worker = Worker(backend)

        async def carry_out(number: int, operation: str, arguments: list[Any]) -> None:
            try:
                say([number, await getattr(worker, operation)(*arguments)])
            except HoldfastError as error:
                say([number, {"error": type(error).__name__}])

        say(["ready", backend.replica])
        while line := await to_thread.run_sync(next_line, abandon_on_cancel=True):
            number, operation, *arguments = json.loads(line)
            tasks.start_soon(carry_out, number, operation, arguments)


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], json.loads(sys.argv[2]))
