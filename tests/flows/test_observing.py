"""Each promise can be seen: what an observer is told while clients come, go, and lose things."""

from collections import Counter

import pytest
from typing_extensions import override

from holdfast import Observer
from tests.flows.apps import Stage
from tests.flows.conftest import Wired
from tests.flows.wire import call, until


class Onlooker(Observer):
    """Counts what it was told, over the whole fleet."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.bytes = 0
        self.missed = 0
        self.dead: set[str] = set()
        self.reasons: list[str] = []
        self.failed: set[str] = set()

    @override
    def session_opened(self, session: str) -> None:
        self.seen["session_opened"] += 1

    @override
    def session_ended(self, session: str) -> None:
        self.seen["session_ended"] += 1

    @override
    def stream_opened(self, session: str, stream: str) -> None:
        self.seen["streams"] += 1

    @override
    def stream_closed(self, session: str, stream: str) -> None:
        self.seen["streams"] -= 1

    @override
    def appended(self, session: str, stream: str, size_bytes: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen["appended"] += 1
        self.bytes += size_bytes

    @override
    def resumed(self, session: str, stream: str, events: int) -> None:
        self.seen["resumed"] += 1
        self.missed += events

    @override
    def gap_told(self, session: str, stream: str, reason: str) -> None:
        self.reasons.append(reason)

    @override
    def taken_over(self, session: str) -> None:
        self.seen["taken_over"] += 1

    @override
    def orphan_ended(self, session: str, stream: str, replica: str) -> None:
        self.dead.add(replica)

    @override
    def store_failed(self, operation: str, error: Exception) -> None:
        self.failed.add(operation)

    @override
    def loop_lagged(self, seconds: float) -> None:
        assert seconds >= 0
        self.seen["loop_lagged"] += 1


async def test_sessions_streams_and_appends_are_seen(wired: Wired) -> None:
    seen = Onlooker()
    async with wired(observer=seen) as wire:
        assert seen.seen["session_opened"] == 1
        async with wire.open(on=1) as standalone:
            await standalone.next()
            assert seen.seen["streams"] == 1
            await wire.do("announce", on=0)
            await standalone.method("notifications/tools/list_changed")
        assert seen.seen["appended"] == 1
        assert seen.bytes > len("notifications/tools/list_changed")
        await until(lambda: not seen.seen["streams"])
        await wire.delete(on=2)
        await until(lambda: seen.seen["session_ended"] >= 1)


async def test_a_resume_is_seen_with_what_was_missed(wired: Wired) -> None:
    seen = Onlooker()
    async with wired(observer=seen) as wire:
        async with wire.calling("count", "5", on=0) as stream:
            events = await stream.rest()
        async with wire.open(on=1, after=events[0].id) as resumed:
            missed = [event for event in await resumed.rest() if event.data]
        assert (seen.seen["resumed"], seen.missed) == (1, len(missed))
        await until(lambda: not seen.seen["streams"])


async def test_a_gap_that_a_client_is_told_of_is_seen(wired: Wired) -> None:
    seen = Onlooker()
    async with wired(observer=seen) as wire:
        async with wire.calling("count", "1500", on=0) as stream:
            priming = await stream.next()
            assert priming is not None
            await stream.rest()
        async with wire.open(on=1, after=priming.id) as resumed:
            await resumed.rest()
        assert set(seen.reasons) == {"trimmed"}


async def test_a_takeover_is_seen(wired: Wired) -> None:
    seen = Onlooker()
    async with wired(observer=seen) as wire, wire.open(on=0) as first:
        await first.next()
        async with wire.open(on=1) as second:
            await second.next()
            assert seen.seen["taken_over"] == 1


async def test_a_store_that_fails_is_seen(wired: Wired) -> None:
    seen = Onlooker()
    async with wired(observer=seen) as wire:
        wire.fleet.replicas[0].store.fail("sessions.find")
        assert (await wire.post(call("echo", "x"), on=0)).status_code == 503
        wire.fleet.replicas[0].store.heal()
        assert seen.failed == {"POST"}


async def test_a_dead_replicas_stream_is_seen_to_end(
    wired: Wired, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sessions.replica.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("holdfast.sessions.pulse.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("holdfast.sessions.pulse.DEAD_AFTER_SECONDS", 1.0)
    monkeypatch.setattr("holdfast.sessions.pulse.SEEN_AGAIN_SECONDS", 0.0)
    seen = Onlooker()
    async with wired(observer=seen) as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
            dead = wire.fleet.replicas[0].store.replica
            await wire.fleet.kill(0)
        async with wire.open(on=1, after=stream.last_id) as resumed:
            await resumed.result()
        assert seen.dead == {dead}
        stage.mark("go")


async def test_the_event_loop_is_watched(wired: Wired) -> None:
    seen = Onlooker()
    async with wired(observer=seen):
        await until(lambda: seen.seen["loop_lagged"] > 1)
