"""Processes that append as fast as they can until they are killed.

`python victim.py` reads lines of JSON, forks a process for each, and prints its id: nothing has to be
imported again, so that hundreds can be killed in a minute. Each writes a line for what was acknowledged.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions, tail
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId


def text(writer: str, session: str, counter: int) -> str:
    """What a writer says: the same whenever it is asked for."""
    chance = random.Random(f"{writer} {session} {counter}")
    return f"{writer} {counter} {'x' * chance.choice((1, 10, 3000))}"


async def append(
    path: str, writer: str, sessions: Sequence[str], options: dict[str, Any], acknowledge: int
) -> None:
    async with SqliteBackend(Path(path), options=SqliteOptions(**options)) as backend:

        async def one(session: str, counter: int) -> None:
            payload = text(writer, session, counter).encode()
            event = await backend.log.append(
                SessionId(session), STANDALONE, payload, key=AppendKey(writer, counter)
            )
            line = json.dumps([session, counter, event.position.epoch, event.position.offset, event.previous])
            os.write(acknowledge, line.encode() + b"\n")

        counter, chance = 1, random.Random(writer)
        while True:
            several = range(counter, counter + chance.choice((1, 3, 30)))
            async with anyio.create_task_group() as tasks:
                for number in several:
                    for session in sessions:
                        tasks.start_soon(one, session, number)
            counter = several.stop


def live(path: str, pipe: str, writer: str, sessions: list[str], options: dict[str, Any], fold: int) -> None:
    tail.FOLDED_AT = fold  # type: ignore[misc]  # so that it happens often
    acknowledge = os.open(pipe, os.O_WRONLY)
    anyio.run(append, path, writer, sessions, options, acknowledge)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            live(*json.loads(line))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
