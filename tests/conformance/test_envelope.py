"""Over an envelope a backend keeps every promise, whatever its payloads look like at rest."""

import secrets
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.backends.envelope import Codec, EnvelopeBackend, KeyRing
from holdfast.backends.sqlite import SqliteBackend
from holdfast.errors import PositionLost
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE
from holdfast.testing import conformance
from holdfast.testing.conformance.harness import new_session, start_of
from tests.conformance.memory_store import MemoryStore


class EnvelopeStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.codec = Codec(compress_from_bytes=64, keys=KeyRing({"k": secrets.token_bytes(32)}))

    @override
    def replica(self) -> Backend:
        return EnvelopeBackend(super().replica(), self.codec)


@pytest.fixture
def store() -> EnvelopeStore:
    return EnvelopeStore()


class TestEventLog(conformance.EventLogSuite): ...


class TestWatch(conformance.WatchSuite): ...


class TestClaims(conformance.ClaimSuite): ...


class TestLives(conformance.LivesSuite): ...


class TestBroadcastLog(conformance.BroadcastLogSuite): ...


class TestBroadcastLives(conformance.BroadcastLivesSuite): ...


class TestSessionStore(conformance.SessionStoreSuite): ...


class TestInbox(conformance.InboxSuite): ...


class TestAtRest:
    """What the suites cannot see."""

    pytestmark = pytest.mark.anyio

    @pytest.mark.guarantee("G17")
    async def test_a_damaged_event_is_a_gap_of_one(self, store: EnvelopeStore) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            start = await start_of(a, session)
            assert isinstance(a, EnvelopeBackend)
            await a.log.append(session, STANDALONE, b"1")
            await a.inner.log.append(session, STANDALONE, b"\xf5\x01e\x01k damaged")
            third = await a.log.append(session, STANDALONE, b"3")
            page = await a.log.read(session, STANDALONE, after=start, limit=10)
            assert [event.payload for event in page.events] == [b"1"]
            assert not page.complete
            with pytest.raises(PositionLost) as lost:
                await a.log.read(session, STANDALONE, after=page.cursor, limit=10)
            assert lost.value.reason == "damaged"
            after = type(start)(lost.value.resume_epoch, lost.value.resume_offset)
            page = await a.log.read(session, STANDALONE, after=after, limit=10)
            assert page.events == [third]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_that_was_said_is_in_the_file(tmp_path: Path) -> None:
    codec = Codec(keys=KeyRing({"k": secrets.token_bytes(32)}))
    async with EnvelopeBackend(SqliteBackend(tmp_path / "sessions.db"), codec) as backend:
        session = await new_session(backend, client=b'{"clientInfo":"confidential"}')
        await backend.log.append(session, STANDALONE, b"confidential", expects="q")
        assert await backend.inbox.put(session, "q", b"confidential")
        await backend.broadcasts.append(b"confidential")
        stored = _content(tmp_path)
    assert session.encode() in stored
    assert b"confidential" not in stored


def _content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())
