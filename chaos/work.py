"""What clients do all day, and what they make of the answers."""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.audit import audit_call, audit_standalone
from chaos.call import CANCELLED, Call, Job, choose_hang_ups
from chaos.checksum import checksum
from chaos.client import Client, RetryError, SessionLostError
from chaos.fleet import Fleet
from chaos.ledger import Diary
from chaos.listener import Listener

LATE_SECONDS: Final = 10.0
LANES: Final = 2
AUDIT_SHARE: Final = 0.1
CLOSE_SHARE: Final = 0.1
LATER_SECONDS: Final = 15.0
_KINDS: Final = {"count": 40, "tell": 25, "ask": 10, "ask_standalone": 5, "cancel": 8, "echo": 12}


@dataclass
class Worker:
    """One client at work: a listener, and some lanes of calls."""

    client: Client
    fleet: Fleet
    events: int
    think_seconds: float
    stopped: asyncio.Event
    listener: Listener = field(init=False)
    _marks: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.listener = Listener(self.client)

    @property
    def diary(self) -> Diary:
        return self.client.diary

    async def run(self) -> None:
        """Work until told to stop and enough was read; then see whether all came."""
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self.listener.run())
                await self.listener.ready.wait()
                await asyncio.gather(*(self._lane() for _ in range(LANES)))
                await self.listener.complete()
                await self.client.settle(2 * LATER_SECONDS)
                listening.cancel()
            await audit_standalone(self.client, self.listener.log)
        except* SessionLostError:
            self.diary.note("gave up")
        finally:
            await self.client.close()

    async def _lane(self) -> None:
        while not self.stopped.is_set() or self.diary.acknowledged < self.events:
            job, tool = self._choose()
            await self._do(job, tool)
            await asyncio.sleep(self.client.random.uniform(0, 2 * self.think_seconds))

    async def _do(self, make: Callable[[str], Job], kind: str) -> None:
        """Call until something was promised, each time as a new call."""
        while True:
            call = Call(self.client, make(f"{self.diary.number}.{next(self._marks)}"))
            try:
                await call.run()
            except RetryError:
                await self.client.back_off()
                continue
            if call.answer is not None:
                self.diary.count(f"calls: {kind}")
                await self._judge(call, call.answer)
            return

    async def _judge(self, call: Call, answer: dict[str, Any]) -> None:
        error = answer.get("error")
        if error is None:
            self._judge_result(call, answer["result"])
        elif not (error["code"] == CANCELLED and call.cancelled):
            self._judge_error(call, error)
        if call.log.first_id is None:
            return
        if self.client.random.random() < AUDIT_SHARE:
            await audit_call(self.client, call)
        if error is not None and not call.cancelled:
            self.client.spawn(self._look_again, call)

    async def _look_again(self, call: Call) -> None:
        """One that was taken for dead may have woken up by then: its answer must not be there too."""
        await asyncio.sleep(LATER_SECONDS)
        await audit_call(self.client, call)

    def _judge_result(self, call: Call, result: dict[str, Any]) -> None:
        job, store = call.job, self.diary.tally.store
        if result.get("isError") and store.outage(call.started):
            self.diary.count("calls failed by the store")
            return
        said = result["content"][0]["text"] if result.get("content") else ""
        wanted, numbers = _expected(job)
        if result.get("isError") or said != wanted:
            self.diary.blame("wrong", f"{job.mark}: said {result}, expected {wanted}")
        if job.tool == "tell":
            self.listener.sent(job.mark, job.arguments["events"], call.started)
        if call.numbers != numbers and not self._in_a_told_gap(call, numbers):
            self.diary.blame("lost", f"{job.mark}: read {call.numbers} of {numbers} messages")
        if call.cancelled:
            self.diary.count("cancelled too late")

    def _in_a_told_gap(self, call: Call, numbers: int) -> bool:
        missing = numbers - call.numbers
        if not call.log.told_gap_at or missing > self.diary.tally.store.gap_events():
            return False
        self.diary.count("events in told gaps", missing)
        return True

    def _judge_error(self, call: Call, error: dict[str, Any]) -> None:
        """Errors are for the requests of replicas that died, were told to end, or stood still for long."""
        data: dict[str, Any] = error.get("data") or {}
        store = self.diary.tally.store
        if data.get("reason") == "store-unavailable" and store.outage(call.started):
            self.diary.count("calls failed by the store")
            return
        if data.get("reason") == "stream-lost" and store.gap_events():
            self.diary.count("streams lost in a failover")
            return
        if data.get("reason") == "trimmed" and call.log.told_gap_at:
            self.diary.count("answers in told gaps")
            return
        blows = self.fleet.harmed(call.backend, call.started, call.answered_at)
        if data.get("reason") not in {"replica-died", "shutting-down"} or data.get("retryable") is not True:
            self.diary.blame("wrong", f"{call.job.mark}: {error}")
            return
        self.diary.count(f"errors: {data['reason']}")
        if not blows:
            self.diary.blame("living", f"{call.job.mark}: {error}, but {call.backend} lived")
            return
        rolling = self.diary.tally.rolling_since
        if rolling is not None and call.started >= rolling:
            self.diary.blame("failed", f"{call.job.mark} in a rolling restart: {error}")
        if all(blow.harm == "kill" for blow in blows):
            self._judge_wait(call, blows[0].at)

    def _judge_wait(self, call: Call, died_at: float) -> None:
        """Pauses and deaths of those who were asked later are no fault of theirs, and are taken off."""
        wait = call.answered_at - died_at
        off = [pause for each in call.connections for pause in self.fleet.pauses(each)]
        off += self.diary.tally.store.troubles(died_at, call.answered_at)
        spent = _length([*off, *call.away(died_at)], died_at, call.answered_at)
        self.diary.tally.raw_error_waits.append(wait)
        self.diary.tally.error_waits.append(wait - spent)
        if wait - spent > LATE_SECONDS:
            self.diary.blame("late", f"{call.job.mark}: {wait:.1f} s, {spent:.1f} s of it by further blows")

    def _choose(self) -> tuple[Callable[[str], Job], str]:
        rng = self.client.random
        (kind,) = rng.choices(list(_KINDS), list(_KINDS.values()))
        return _MAKERS[kind](rng), kind


def _length(intervals: list[tuple[float, float]], since: float, until: float) -> float:
    """How much of a stretch of time lies in any of the intervals."""
    covered, reached = 0.0, since
    for start, end in sorted(intervals):
        covered += max(0.0, min(end, until) - max(start, reached))
        reached = max(reached, end)
    return covered


def _expected(job: Job) -> tuple[str, int]:
    """What a call says when it was done, and how many messages of its own it sent before."""
    match job.tool:
        case "count":
            return checksum(job.mark, job.arguments["events"]), job.arguments["events"]
        case "tell":
            return checksum(job.mark, job.arguments["events"]), 0
        case "ask":
            return f"accept:{job.mark}", 2
        case _:
            return job.mark, 0


def _count(rng: random.Random) -> Callable[[str], Job]:
    events, pause = rng.randint(3, 25), rng.randint(0, 100)
    hang_up_at = rng.randint(1, events) if rng.random() < CLOSE_SHARE else 0
    arguments = {"events": events, "pause_ms": pause, "hang_up_at": hang_up_at}
    hang_ups = choose_hang_ups(rng, events)
    return lambda mark: Job("count", mark, {"mark": mark, **arguments}, hang_ups)


def _tell(rng: random.Random) -> Callable[[str], Job]:
    arguments = {"events": rng.randint(3, 20), "pause_ms": rng.randint(0, 100)}
    return lambda mark: Job("tell", mark, {"mark": mark, **arguments})


def _ask(rng: random.Random) -> Callable[[str], Job]:
    arguments = {"pause_ms": rng.randint(0, 500), "standalone": False}
    hang_ups = choose_hang_ups(rng, 1)
    return lambda mark: Job("ask", mark, {"mark": mark, **arguments}, hang_ups)


def _ask_standalone(rng: random.Random) -> Callable[[str], Job]:
    arguments = {"pause_ms": rng.randint(0, 500), "standalone": True}
    return lambda mark: Job("ask", mark, {"mark": mark, **arguments})


def _cancel(rng: random.Random) -> Callable[[str], Job]:
    arguments = {"events": 100, "pause_ms": 50}
    at = rng.randint(0, 20)
    return lambda mark: Job("count", mark, {"mark": mark, **arguments}, cancel_at=at)


def _echo(_rng: random.Random) -> Callable[[str], Job]:
    return lambda mark: Job("echo", mark, {"text": mark})


_MAKERS: Final = {
    "count": _count,
    "tell": _tell,
    "ask": _ask,
    "ask_standalone": _ask_standalone,
    "cancel": _cancel,
    "echo": _echo,
}
