# ruff: noqa: D102 - a test is named by a sentence
"""`BroadcastLog`: what is said to all sessions."""

from functools import partial
from secrets import token_bytes
from typing import Any

import anyio
import pytest

from holdfast.errors import PositionLost
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import BROADCAST, GENESIS, AppendKey, Event, Position
from holdfast.testing.conformance.harness import (
    PATIENCE_SECONDS,
    PAYLOADS,
    Heard,
    StoreUnderTest,
    new_session,
    top_of,
)

__all__ = ["BroadcastLivesSuite", "BroadcastLogSuite"]


async def _say(backend: Backend, number: int) -> list[Event]:
    return [await backend.broadcasts.append(b"%d" % count) for count in range(number)]


def _enough(number: int, calls: list[tuple[Any, ...]]) -> bool:
    return len(calls) >= number


async def _read_all(backend: Backend, after: Position, limit: int = 7) -> list[Event]:
    events: list[Event] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            page = await backend.broadcasts.read(after=after, limit=limit)
            assert len(page.events) <= limit
            events += page.events
            if page.complete:
                assert page.cursor == await backend.broadcasts.top()
                return events
            assert page.cursor != after, "an incomplete page must lead on"
            after = page.cursor


class BroadcastLogSuite:
    """One log for the fleet, whatever the number of sessions."""

    pytestmark = pytest.mark.anyio

    async def test_before_the_first_broadcast_there_is_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            await new_session(a)
            for backend in (a, b):
                assert await backend.broadcasts.top() == GENESIS
                page = await backend.broadcasts.read(after=GENESIS, limit=10)
                assert (list(page.events), page.cursor, page.complete) == ([], GENESIS, True)

    async def test_offsets_are_dense_over_all_replicas(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            events = [await (a, b)[count % 2].broadcasts.append(b"x") for count in range(10)]
            assert [event.position.offset for event in events] == list(range(1, 11))
            assert [event.previous for event in events] == list(range(10))
            assert len({event.position.epoch for event in events}) == 1
            assert {event.stream for event in events} == {BROADCAST}
            assert not any(event.final for event in events)

    async def test_the_epoch_cannot_be_guessed(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            (event,) = await _say(a, 1)
            assert len(event.position.epoch) >= 12
            assert len(event.position.epoch) <= 32

    async def test_every_replica_reads_what_any_of_them_said(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            said = [await (a, b)[count % 2].broadcasts.append(b"%d" % count) for count in range(20)]
            for limit in (1, 7, 100):
                assert await _read_all(c, GENESIS, limit) == said
                assert await _read_all(c, said[9].position, limit) == said[10:]
            assert await c.broadcasts.top() == said[-1].position
            assert await _read_all(c, said[-1].position) == []

    async def test_payloads_come_back_as_they_went_in(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            heard = Heard()
            async with b.broadcasts.watch(heard) as top:
                for number, payload in enumerate(PAYLOADS, 1):
                    event = await a.broadcasts.append(payload)
                    page = await b.broadcasts.read(after=top, limit=1)
                    assert list(page.events) == [event]
                    assert event.payload == payload
                    top = page.cursor  # noqa: PLW2901 - the cursor of a reader
                    await heard.until(partial(_enough, number))
                # On a cluster an announcement from before the log was emptied may come late: of another life.
                events = [call[0] for call in heard.calls if call[0] is not None]
                mine = [each for each in events if each.position.epoch == top.epoch]
                assert all(each.payload in PAYLOADS for each in mine)

    async def test_the_same_key_stores_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            key = AppendKey("w", 1)
            first = await a.broadcasts.append(b"x", key=key)
            assert await a.broadcasts.append(b"x", key=key) == first
            assert await b.broadcasts.append(b"x", key=key) == first
            assert await _read_all(b, GENESIS) == [first]
            second = await a.broadcasts.append(b"x", key=AppendKey("w", 2))
            assert second.position.offset == first.position.offset + 1
            other = await b.broadcasts.append(b"x", key=AppendKey("v", 1))
            assert other.position.offset == second.position.offset + 1
            assert await a.broadcasts.append(b"x", key=AppendKey("w", 2)) == second

    async def test_a_key_is_known_although_its_event_was_trimmed(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            first = await a.broadcasts.append(b"x", key=AppendKey("w", 1))
            await _say(a, store.max_events + 1)
            assert (await a.broadcasts.append(b"x", key=AppendKey("w", 1))).position == first.position

    async def test_a_counter_that_shrinks_is_a_mistake(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            for counter in (1, 2):
                await a.broadcasts.append(b"x", key=AppendKey("w", counter))
            with pytest.raises(ValueError, match="counter"):
                await a.broadcasts.append(b"x", key=AppendKey("w", 1))
            assert (await a.broadcasts.top()).offset == 2

    async def test_concurrent_broadcasts_get_places_of_their_own(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            said: list[Event] = []

            async def say(backend: Backend, number: int) -> None:
                said.append(await backend.broadcasts.append(b"%d" % number))

            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(say, replicas[number % 2], number)
            assert sorted(event.position.offset for event in said) == list(range(1, 31))
            assert {e.payload for e in await _read_all(replicas[0], GENESIS)} == {e.payload for e in said}

    async def test_whoever_watches_hears_of_each_in_order(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            before = await a.broadcasts.append(b"before")
            heard = [Heard(), Heard()]
            async with b.broadcasts.watch(heard[0]) as top, c.broadcasts.watch(heard[1]):
                assert top == before.position
                said = await _say(a, 5)
                for one in heard:
                    await one.until(lambda calls: len(calls) >= len(said) or (None,) in calls)
                    # What was announced before may come late.
                    told = [call[0] for call in one.calls if call[0] not in (None, before)]
                    assert told == [event for event in said if event in told]

    async def test_whoever_has_left_is_left_alone(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            left, stayed = Heard(), Heard()
            async with b.broadcasts.watch(stayed):
                async with b.broadcasts.watch(left):
                    pass
                left.calls.clear()
                await _say(a, 1)
                await stayed.once()
                assert left.calls == []

    async def test_what_is_trimmed_is_a_gap_that_is_told(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            said = await _say(a, store.max_events + 10)
            for after in (GENESIS, said[0].position, said[4].position):
                with pytest.raises(PositionLost) as lost:
                    await b.broadcasts.read(after=after, limit=1)
                assert lost.value.reason == "trimmed"
                resume = Position(lost.value.resume_epoch, lost.value.resume_offset)
                kept = await _read_all(b, resume)
                assert kept == said[resume.offset :]
                assert store.max_events * 63 // 64 <= len(kept) <= store.max_events
            assert await _read_all(b, said[-5].position) == said[-4:]

    async def test_the_bound_on_bytes_holds_and_the_newest_stays(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            big = token_bytes(store.max_bytes // 2 - 1000)  # nothing that could be compressed
            said = [await a.broadcasts.append(big) for _ in range(3)]
            with pytest.raises(PositionLost):
                await a.broadcasts.read(after=GENESIS, limit=1)
            assert await _read_all(a, said[0].position) == said[1:]
            huge = await a.broadcasts.append(token_bytes(store.max_bytes + 1))
            assert await _read_all(a, said[-1].position) == [huge]
            small = await a.broadcasts.append(b"x")
            assert await _read_all(a, huge.position) == [small]

    async def test_an_epoch_that_never_was_goes_on_with_what_is_kept(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            said = await _say(a, 3)
            with pytest.raises(PositionLost) as lost:
                await a.broadcasts.read(after=Position("never", 2), limit=1)
            assert lost.value.reason == "epoch"
            resume = Position(lost.value.resume_epoch, lost.value.resume_offset)
            assert await _read_all(a, resume) == said

    async def test_a_place_that_was_not_reached_yet_is_lost(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            (event,) = await _say(a, 1)
            for offset in (2, 10**15):
                with pytest.raises(PositionLost):
                    await a.broadcasts.read(after=Position(event.position.epoch, offset), limit=1)

    async def test_a_place_in_a_log_that_is_gone_is_lost(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            with pytest.raises(PositionLost) as lost:
                await a.broadcasts.read(after=Position("gone", 3), limit=1)
            resume = Position(lost.value.resume_epoch, lost.value.resume_offset)
            assert resume == GENESIS
            assert await _read_all(a, resume) == await _say(a, 0)

    async def test_a_session_remembers_where_the_broadcasts_were(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            early = await new_session(a, broadcast=await a.broadcasts.top())
            (event,) = await _say(a, 1)
            late = await new_session(a, broadcast=await a.broadcasts.top())
            for session, place in ((early, GENESIS), (late, event.position)):
                found = await b.sessions.find(session, owner=None, with_facts=True)
                assert found is not None
                assert found.facts is not None
                assert found.facts.broadcast == place

    async def test_sessions_and_broadcasts_do_not_meet(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await _say(a, 3)
            assert (await top_of(a, session)).offset == 0
            assert await a.sessions.count() == 1
            assert list(await a.sessions.list()) == [session]
            assert await a.sessions.close(session)
            assert (await a.broadcasts.top()).offset == 3


class BroadcastLivesSuite:
    """The broadcast log after a failover. Skipped for a store that cannot simulate it."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture(autouse=True)
    def skipped_without_failover(self, store: StoreUnderTest) -> None:
        if not store.can_fail_over:
            pytest.skip("this store has no way to simulate a failover")

    async def test_what_survived_can_be_read_on_from_old_places(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            said = await _say(a, 10)
            await store.fail_over(6)
            for offset in range(7):
                kept = await _read_all(b, Position(said[0].position.epoch, offset))
                assert [event.payload for event in kept] == [e.payload for e in said[offset:6]]

    async def test_places_beyond_what_survived_are_lost(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            said = await _say(a, 10)
            await store.fail_over(6)
            for _ in range(2):
                for event in said[6:]:
                    with pytest.raises(PositionLost) as lost:
                        await b.broadcasts.read(after=event.position, limit=1)
                    assert lost.value.reason == "epoch"
                    assert lost.value.resume_epoch == (await a.broadcasts.top()).epoch
                    assert lost.value.resume_offset == 6, "what survived was heard already"
                # The offsets are used again: the second time round only the epoch tells them apart.
                for _ in range(4):
                    await b.broadcasts.append(b"new")

    async def test_the_new_life_has_a_new_epoch_and_goes_on_counting(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            old = (await _say(a, 4))[-1]
            await store.fail_over(3)
            top = await b.broadcasts.top()
            assert top.epoch != old.position.epoch
            new = await a.broadcasts.append(b"new")
            assert (new.position, new.previous) == (Position(top.epoch, 4), 3)

    async def test_watchers_hear_that_they_should_look(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            await _say(a, 3)
            heard = Heard()
            async with b.broadcasts.watch(heard):
                heard.calls.clear()
                await store.fail_over(2)
                await a.broadcasts.append(b"new")
                await heard.once()
