# ruff: noqa: D102 - a test is named by a sentence
"""`EventLog`: another server takes over, and may know less than the one before."""

import pytest

from holdfast.errors import PositionLost
from holdfast.sessions.types import STANDALONE, AppendKey, Position
from holdfast.testing.conformance.harness import (
    Heard,
    StoreUnderTest,
    new_session,
    new_stream,
    read_all,
    start_of,
    top_of,
)

__all__ = ["LivesSuite"]


class LivesSuite:
    """Positions of an earlier life are honoured as far as it is certain that nothing was lost.

    Skipped for a store that cannot simulate it.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture(autouse=True)
    def skipped_without_failover(self, store: StoreUnderTest) -> None:
        if not store.can_fail_over:
            pytest.skip("this store has no way to simulate a failover")

    async def test_what_survived_can_be_read_on_from_old_positions(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            events = [await a.log.append(session, STANDALONE, b"%d" % number) for number in range(10)]
            await store.fail_over(6)
            for offset in range(7):
                after = Position(events[0].position.epoch, offset)
                kept = await read_all(b, session, STANDALONE, after=after)
                assert [event.payload for event in kept] == [e.payload for e in events[offset:6]]

    async def test_positions_beyond_what_survived_are_lost(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            events = [await a.log.append(session, STANDALONE, b"x") for _ in range(10)]
            await store.fail_over(6)
            for _ in range(2):
                for event in events[6:]:
                    with pytest.raises(PositionLost) as lost:
                        await b.log.read(session, STANDALONE, after=event.position, limit=1)
                    assert lost.value.reason == "epoch"
                    assert lost.value.resume_epoch == (await top_of(a, session)).epoch
                    assert lost.value.resume_offset == 6, "what survived was seen already"
                # The offsets are used again: the second time round only the epoch tells them apart.
                for _ in range(4):
                    await b.log.append(session, STANDALONE, b"new")

    async def test_the_new_life_has_a_new_epoch_and_goes_on_counting(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            old = [await a.log.append(session, STANDALONE, b"old") for _ in range(4)][-1]
            await store.fail_over(3)
            top = await top_of(b, session)
            assert top.epoch != old.position.epoch
            assert top.offset == 3
            new = await a.log.append(session, STANDALONE, b"new")
            assert (new.position, new.previous) == (Position(top.epoch, 4), 3)
            events = await read_all(b, session, STANDALONE)
            assert [event.payload for event in events] == [b"old"] * 3 + [b"new"]
            assert {event.position.epoch for event in events} == {top.epoch}

    async def test_nothing_is_lost_for_a_reader_if_everything_survived(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            before = await a.log.append(session, STANDALONE, b"before")
            for _ in range(3):
                await store.fail_over(None)
            after = await a.log.append(session, STANDALONE, b"after")
            page = await b.log.read(session, STANDALONE, after=before.position, limit=9)
            assert list(page.events) == [after]
            assert page.cursor.epoch == (await top_of(a, session)).epoch

    async def test_a_second_failover_may_lose_more_of_the_first_life(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            events = [await a.log.append(session, STANDALONE, b"x") for _ in range(10)]
            await store.fail_over(8)
            await store.fail_over(5)
            assert await read_all(a, session, STANDALONE, after=events[4].position) == []
            for event in events[5:]:
                with pytest.raises(PositionLost):
                    await a.log.read(session, STANDALONE, after=event.position, limit=1)

    async def test_an_append_that_was_lost_can_be_repeated(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            kept = await a.log.append(session, STANDALONE, b"kept", key=AppendKey("one", 1))
            await a.log.append(session, STANDALONE, b"lost", key=AppendKey("other", 1))
            await store.fail_over(1)
            again = await a.log.append(session, STANDALONE, b"kept", key=AppendKey("one", 1))
            assert again.position.offset == kept.position.offset
            await a.log.append(session, STANDALONE, b"lost", key=AppendKey("other", 1))
            events = await read_all(a, session, STANDALONE)
            assert [event.payload for event in events] == [b"kept", b"lost"]

    async def test_a_stream_whose_response_was_lost_runs_again(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            await a.log.append(session, stream, b"progress")
            await a.log.append(session, stream, b"lost", final=True)
            await store.fail_over(1)
            page = await b.log.read(session, stream, after=await start_of(b, session), limit=9)
            assert page.stream.running
            await b.log.append(session, stream, b"done", final=True)
            assert [e.payload for e in await read_all(a, session, stream)] == [b"progress", b"done"]

    async def test_a_request_that_was_lost_cannot_be_answered(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.log.append(session, STANDALONE, b"kept?", expects="kept")
            await a.log.append(session, STANDALONE, b"lost?", expects="lost")
            await store.fail_over(1)
            assert await a.inbox.put(session, "kept", b"!")
            assert not await a.inbox.put(session, "lost", b"!")

    async def test_readers_and_waiters_are_told_to_look(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            woken, arrived = Heard(), Heard()
            async with a.log.watch(session, woken), a.inbox.listen(arrived):
                await store.fail_over(None)
                await woken.once()
                await arrived.told(None, None)
