"""What the suites cannot see: the bookkeeping of the log in the server, and damage done to it there."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import cast

import pytest

from holdfast.backends.redis import RedisBackend
from holdfast.errors import PositionLost, SessionGone, StreamUnknown
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Position, SessionId, StreamId
from holdfast.testing.conformance.harness import Heard, new_session, new_stream, read_all, start_of, top_of
from tests.backends.redis.conftest import Connect
from tests.servers import RunningServer, assert_every_key_expires

pytestmark = pytest.mark.anyio


@dataclass
class Session:
    """One session, what was said in it, and what the server has of it."""

    server: RunningServer
    backend: RedisBackend
    id: SessionId
    said: dict[StreamId, list[Event]] = field(default_factory=dict[StreamId, list[Event]])

    def key(self, part: str) -> str:
        return f"{{mcp:session:{self.id}}}:{part}"

    def meta(self, name: str) -> str:
        return (cast("bytes | None", self.server.cli("HGET", self.key("meta"), name)) or b"").decode()

    def log(self) -> dict[int, list[bytes]]:
        """Fields of the entries by offset."""
        entries = cast("list[list[object]]", self.server.cli("XRANGE", self.key("log"), "-", "+"))
        return {int(cast("bytes", e[0]).split(b"-")[0]): cast("list[bytes]", e[1])[1::2] for e in entries}

    async def say(self, stream: StreamId, payload: bytes, *, final: bool = False, ask: str = "") -> None:
        event = await self.backend.log.append(self.id, stream, payload, final=final, expects=ask or None)
        self.said.setdefault(stream, []).append(event)

    async def open(self) -> StreamId:
        stream = await new_stream(self.backend, self.id)
        self.said[stream] = []
        return stream


@pytest.fixture
async def session(redis_server: RunningServer, connect: Connect) -> AsyncGenerator[Session]:
    async with connect(max_events=32, max_bytes=3200) as backend:
        yield Session(redis_server, backend, await new_session(backend))


@pytest.mark.parametrize("seed", range(6))
async def test_gap_if_and_only_if_something_was_dropped(session: Session, seed: int) -> None:
    dice = random.Random(seed)
    open_streams = [STANDALONE, await session.open()]
    session.said[STANDALONE] = []
    asked: list[str] = []
    for step in range(400):
        what = dice.random()
        if what < 0.1:
            open_streams.append(await session.open())
        elif what < 0.2 and asked:
            await session.backend.inbox.put(session.id, asked.pop(dice.randrange(len(asked))), b"!")
        else:
            # Long runs on one stream, as a busy handler makes them, and everything mixed.
            stream = open_streams[-1] if dice.random() < 0.5 else dice.choice(open_streams)
            final = stream != STANDALONE and dice.random() < 0.15
            ask = f"q{step}" if not final and dice.random() < 0.15 else ""
            size = 1500 if dice.random() < 0.03 else dice.randrange(150)
            await session.say(stream, b"x" * size, final=final, ask=ask)
            asked += [ask] if ask else []
            open_streams.remove(stream) if final else None
        if step % 10 == 9:
            check_counters(session)
            for stream in dice.sample(sorted(session.said), min(4, len(session.said))):
                await check_stream(session, stream)


def check_counters(session: Session) -> None:
    log = session.log()
    assert len(log) <= 32
    sizes = [len(fields[3]) for fields in log.values()]
    assert sum(sizes) <= 3200 or len(sizes) == 1
    assert int(session.meta("c")) == len(log)
    assert int(session.meta("b")) == sum(sizes)
    plain = {offset for offset, fields in log.items() if (fields[0], fields[2]) == (b"-", b"0")}
    assert int(session.meta("y")) == len(plain)
    cut, precious, precious_bytes, reserved, *_ = map(int, session.meta("t").split())
    passed_over = {offset for offset in log if offset <= cut}
    assert reserved == len(passed_over & plain)
    assert precious == len(passed_over - plain)
    assert precious_bytes == sum(len(log[offset][3]) for offset in passed_over - plain)


async def check_stream(session: Session, stream: StreamId) -> None:
    said, log = session.said[stream], session.log()
    top = await top_of(session.backend, session.id)
    for offset in {0, top.offset, *(event.position.offset for event in said)}:
        wanted = [event for event in said if event.position.offset > offset]
        dropped = [event for event in wanted if event.position.offset not in log]
        after = Position(top.epoch, offset)
        if said and said[-1].final and not any(event.position.offset in log for event in said):
            with pytest.raises(StreamUnknown):
                await read_all(session.backend, session.id, stream, after=after)
        elif dropped:
            with pytest.raises(PositionLost) as lost:
                await read_all(session.backend, session.id, stream, after=after)
            assert lost.value.resume_offset == dropped[-1].position.offset
        else:
            assert await read_all(session.backend, session.id, stream, after=after) == wanted


async def test_a_page_ends_at_its_bytes_and_goes_on(redis_server: RunningServer, connect: Connect) -> None:
    async with connect(page_bytes=1000) as a:
        session = await new_session(a)
        for number in range(10):
            await a.log.append(session, STANDALONE, b"%d" % number * 400)
        page = await a.log.read(session, STANDALONE, after=await start_of(a, session), limit=100)
        assert (len(page.events), page.complete) == (3, False)
        assert len(await read_all(a, session, STANDALONE)) == 10


@pytest.mark.parametrize("damage", [("DEL",), ("XDEL", "3-0"), ("XTRIM", "MAXLEN", "2")])
@pytest.mark.parametrize("more", [0, 1, 40])
async def test_a_damaged_log_is_told_never_read_over(
    session: Session, damage: tuple[str, ...], more: int
) -> None:
    for _ in range(5):
        await session.say(STANDALONE, b"x")
    before = await top_of(session.backend, session.id)
    session.server.cli(damage[0], session.key("log"), *damage[1:])
    for _ in range(more):
        await session.say(STANDALONE, b"y")
    resumes: set[int] = set()
    for offset in range(5):
        with pytest.raises(PositionLost) as lost:
            await session.backend.log.read(
                session.id, STANDALONE, after=Position(before.epoch, offset), limit=99
            )
        assert lost.value.reason == "trimmed"
        resumes.add(lost.value.resume_offset)
    top = await top_of(session.backend, session.id)
    resume = Position(before.epoch, resumes.pop())
    assert not resumes
    assert resume.offset <= top.offset
    await session.say(STANDALONE, b"after")
    events = await read_all(session.backend, session.id, STANDALONE, after=resume)
    assert events[-1].payload == b"after"
    if more < 32:
        check_counters(session)


async def test_without_meta_the_session_is_gone_and_its_log_is_not_taken_over(session: Session) -> None:
    await session.say(STANDALONE, b"of the first life")
    session.server.cli("DEL", session.key("meta"))
    with pytest.raises(SessionGone):
        await session.say(STANDALONE, b"x")
    assert session.server.cli("EXISTS", session.key("meta")) == 0
    await new_session(session.backend, id=session.id)
    assert await read_all(session.backend, session.id, STANDALONE) == []


async def test_every_key_ends_with_the_session(session: Session) -> None:
    backend = session.backend
    stream = await session.open()
    await session.say(stream, b"x", ask="q1")
    await session.say(stream, b"x", ask="q2")
    await backend.inbox.put(session.id, "q1", b"!")
    await backend.subscriptions.add(session.id, "r:1", ttl_seconds=60)
    await backend.log.claim(session.id, "reader", after=None)
    await backend.replicas.beat(6)
    keys = [session.key(part) for part in ("meta", "log", "asked", "inbox", "subs")]
    keys.append(f"mcp:session:{session.id}")
    lifetimes = [cast("int", session.server.cli("PTTL", key)) for key in keys]
    assert all(59_000 < lifetime <= 63_750 for lifetime in lifetimes), lifetimes
    assert_every_key_expires(session.server)
    assert await backend.sessions.close(session.id)
    assert session.server.cli("EXISTS", *keys) == 0
    assert cast("int", session.server.cli("PTTL", session.key("gone"))) > 60_000


async def test_activity_is_there_for_operators(session: Session) -> None:
    stream = await session.open()
    await session.backend.log.claim(session.id, "reader", after=None)
    await session.backend.sessions.configure(session.id, log_level='"odd"')
    for _ in range(3):
        await session.say(stream, b"x")
    await session.say(stream, b"x", final=True)
    lines = cast("list[bytes]", session.server.cli("LRANGE", f"mcp:session:{session.id}", 0, -1))
    records = [json.loads(line) for line in lines]
    kinds = ["session.opened", "standalone.claimed", "settings.changed", "stream.closed"]
    assert [record["type"] for record in records] == kinds
    assert all(record["v"] == 1 and record["at_ms"] > 1_700_000_000_000 for record in records)
    for _ in range(100):
        await session.backend.sessions.configure(session.id, log_level="info")
    assert session.server.cli("LLEN", f"mcp:session:{session.id}") == 64


async def test_the_expiry_is_written_only_now_and_then(session: Session) -> None:
    await session.say(STANDALONE, b"x")
    session.server.cli("CONFIG", "RESETSTAT")
    for _ in range(20):
        await session.say(STANDALONE, b"x")
        await session.backend.sessions.find(session.id, owner=None, with_facts=True)
    stats = cast("bytes", session.server.cli("INFO", "commandstats"))
    assert b"cmdstat_pexpire" not in stats


async def test_leases_of_the_dead_are_dropped_by_an_append(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect(lease_seconds=0.05) as a, connect() as b, connect() as c:
        session = await new_session(a)
        meta = f"{{mcp:session:{session}}}:meta"
        woken = Heard()
        async with a.log.watch(session, Heard()), b.log.watch(session, woken):
            leases = cast("bytes", redis_server.cli("HGET", meta, "w"))
            assert a.replica.encode() in leases
            assert b.replica.encode() in leases
            while a.replica.encode() in cast("bytes", redis_server.cli("HGET", meta, "w")):
                await c.log.append(session, STANDALONE, b"x")
            await woken.once()
            await a.log.renew([session])
            assert a.replica.encode() in cast("bytes", redis_server.cli("HGET", meta, "w"))


async def test_records_of_streams_that_nobody_ever_used_are_bounded(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect(max_streams=20) as a:
        session = await new_session(a)
        used = await new_stream(a, session)
        await a.log.append(session, used, b"x")
        streams = [await new_stream(a, session) for _ in range(100)]
        assert cast("int", redis_server.cli("HLEN", f"{{mcp:session:{session}}}:meta")) < 45
        await a.log.append(session, used, b"x")
        await a.log.append(session, streams[-1], b"x")
        with pytest.raises(StreamUnknown):
            await a.log.append(session, streams[0], b"x")


async def test_questions_that_nobody_answers_are_bounded(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a:
        session = await new_session(a)
        await a.log.append(session, STANDALONE, b"x")
        for number in range(1200):
            await a.inbox.expect(session, f"q{number}")
            if number % 100 == 0:
                await a.log.append(session, STANDALONE, b"x")
        asked = cast("int", redis_server.cli("HLEN", f"{{mcp:session:{session}}}:asked"))
        assert 500 < asked <= 1024
        assert await a.inbox.put(session, "q1199", b"!")
        assert not await a.inbox.put(session, "q0", b"!")


async def test_writers_of_the_standalone_stream_are_bounded(session: Session) -> None:
    for number in range(40):
        await session.backend.log.append(session.id, STANDALONE, b"x", key=AppendKey(f"w;| {number}", 7))
    assert session.meta("k").count(";") == 16
    again = await session.backend.log.append(session.id, STANDALONE, b"x", key=AppendKey("w;| 39", 7))
    assert again.position.offset == 40


async def test_an_event_of_335_bytes_takes_less_than_400(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a:
        session = await new_session(a)
        await a.log.open_stream(session, StreamId("AbCd_-12"), 1)
        for number in range(660):
            await a.log.append(session, (STANDALONE, StreamId("AbCd_-12"))[number % 2], b"x" * 335)
        info = cast("list[object]", redis_server.cli("XINFO", "STREAM", f"{{mcp:session:{session}}}:log"))
        nodes = cast("int", info[info.index(b"radix-tree-keys") + 1])
        # A node is 4096 bytes; used_memory says the same, but not to the byte.
        assert nodes * 4096 / 660 < 380
