"""Reading again what was read before: the log must tell the same story to whoever asks later."""

import asyncio
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from chaos.call import Call
from chaos.client import BUSY, Client
from chaos.ledger import Kind, StreamLog
from chaos.wire import Answer, CutError, SilentError
from holdfast.sessions.event_id import decode_event_id

ATTEMPTS: Final = 10
QUIET_SECONDS: Final = 1.0
ENOUGH_SECONDS: Final = 20.0
Story = Sequence[tuple[str, str]]


class TrimmedError(Exception):
    """The log says that it does not go back so far."""


async def audit_call(client: Client, call: Call) -> None:
    """The stream of a call that is over, from its first id on."""
    read = list(call.log.events)
    start = call.log.first_id
    if start is None or not read or call.log.untidy:
        return
    if read[0][0] == start:  # never primed: the first message itself gave the id
        read = read[1:]
    again = await _story(client, start, final=True)
    _compare(client, f"{call.job.tool} {call.job.mark}", read, again)


async def audit_standalone(client: Client, log: StreamLog) -> None:
    """The newest part of the standalone stream, when nobody writes to it any more."""
    read = list(log.events)[1:]
    if not read or log.untidy:
        return
    again = await _story(client, log.events[0][0], final=False)
    # A handler whose connection was given up may have gone on after the last look.
    _compare(client, "standalone", read, again and again[: len(read)])


def _compare(client: Client, name: str, read: Story, again: Story | None) -> None:
    if again is None:
        client.diary.count("audits of what was trimmed")
        return
    client.diary.count("audits")
    read, again = _without_lives(read), _without_lives(again)
    if read == again:
        return
    missing = [pair for pair in again if pair not in read]
    gone = [pair for pair in read if pair not in again]
    went_on = again[: len(read)] == read  # behind the answer, which is the last that is read
    kind: Kind = "doubled" if went_on else "lost" if missing else "wrong"
    client.diary.blame(kind, f"{name}: the log also has {missing}, and has no longer {gone}")


def _without_lives(story: Story) -> Story:
    """The same, whichever life of the log it is read in: a failover begins a new one."""
    found: list[tuple[str, str]] = []
    for event_id, data in story:
        _, position, _ = decode_event_id(event_id)
        found.append((str(position.offset), data))
    return found


async def _story(client: Client, start: str, *, final: bool) -> Story | None:
    """What the log has after an id; None: not all of it any more."""
    for _ in range(ATTEMPTS):
        events: list[tuple[str, str]] = []
        try:
            async with client.request("GET", last_event_id=start) as answer:
                if answer.status not in BUSY and await _read(answer, events, final=final):
                    return events
        except (CutError, SilentError):
            pass
        except TrimmedError:
            return None
        await client.back_off()
    client.diary.blame("unanswered", f"nobody could be asked again what came after {start}")
    return ()


async def _read(answer: Answer, events: list[tuple[str, str]], *, final: bool) -> bool:
    """Read until the end, or for a stream that has none until it is quiet. False: cut off before that."""
    if answer.status == HTTPStatus.BAD_REQUEST:
        raise TrimmedError
    try:
        async with asyncio.timeout(ENOUGH_SECONDS if final else QUIET_SECONDS) as quiet:
            async for event in answer.events():
                if not event.data:
                    continue
                if event.id is None:
                    raise TrimmedError
                events.append((event.id, event.data))
                if not final:
                    quiet.reschedule(asyncio.get_running_loop().time() + QUIET_SECONDS)
    except TimeoutError:
        return not final
    return bool(events) and "method" not in json.loads(events[-1][1]) if final else False
