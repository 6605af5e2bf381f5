"""What earlier releases stored is read by this one. `make_fixture.py` writes down a new format."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from holdfast.backends import open_store
from holdfast.sessions.event_id import decode_event_id
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import SessionId
from holdfast.testing.replicas import replicas
from tests.flows.apps import app_factory
from tests.flows.conftest import Setup
from tests.flows.wire import Wire
from tests.servers import RunningServer

STORED: Final = Path(__file__).parent / "stored"
FORMATS: Final = sorted(path.name for path in STORED.iterdir())
TTL_MS: Final = 3_600_000


@pytest.fixture(params=["valkey", "redis", "sqlite"])
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(request.param)


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest) -> Path:
    """One format, as it was written down."""
    folder: Path = STORED / request.param
    return folder


@pytest.fixture
def expected(stored: Path, setup: Setup) -> dict[str, Any]:
    everything: dict[str, Any] = json.loads((stored / "expected.json").read_text())
    found: dict[str, Any] = everything["sqlite" if setup.store == "sqlite" else "redis"]
    return found


@pytest.fixture
def old_store(
    stored: Path, setup: Setup, store: str, redis_server: RunningServer | None, tmp_path: Path
) -> str:
    """A store with nothing in it but what the earlier release wrote."""
    if redis_server is None:
        shutil.copy(stored / "sqlite.db", tmp_path / "sessions.db")
    else:
        for key, held in json.loads((stored / "redis.json").read_text()).items():
            for command in _restoring(key, held["type"], held["value"]):
                redis_server.cli(*command)
            redis_server.cli("PEXPIRE", _bytes(key), TTL_MS)
    return store


def _restoring(key: str, kind: str, value: Any) -> list[list[bytes]]:
    if kind == "stream":
        return [[b"XADD", _bytes(key), _bytes(entry), *map(_bytes, fields)] for entry, fields in value]
    if kind == "zset":
        members, scores = value[::2], value[1::2]
        pairs = [part for pair in zip(scores, members, strict=True) for part in pair]
        return [[b"ZADD", _bytes(key), *map(_bytes, pairs)]]
    command = {"string": b"SET", "hash": b"HSET", "list": b"RPUSH", "set": b"SADD"}[kind]
    return [[command, _bytes(key), *map(_bytes, [value] if kind == "string" else value)]]


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


async def _read(backend: Backend, session: SessionId, after: str) -> list[str]:
    stream, position, _ = decode_event_id(after)
    page = await backend.log.read(session, stream, after=position, limit=100)
    return [event.payload.decode() for event in page.events]


async def test_the_session_is_found_with_all_that_was_settled(
    old_store: str, expected: dict[str, Any]
) -> None:
    async with open_store(old_store) as backend:
        session = SessionId(expected["session"])
        found = await backend.sessions.find(session, owner=None, with_facts=True)
        assert found is not None
        assert found.facts is not None
        assert found.facts.client.decode() == expected["client"]
        assert found.facts.protocol_version == "2025-11-25"
        assert (found.settings.version, found.settings.log_level) == (1, expected["log_level"])
        assert list(await backend.subscriptions.uris(session)) == [expected["uri"]]
        assert session in await backend.sessions.list()


@pytest.mark.guarantee("G17")
async def test_events_are_read_from_each_id_that_a_client_may_hold(
    old_store: str, expected: dict[str, Any]
) -> None:
    async with open_store(old_store) as backend:
        session = SessionId(expected["session"])
        said = expected["standalone"]
        for number, event in enumerate(said):
            rest = [each["payload"] for each in said[number + 1 :]]
            assert await _read(backend, session, event["id"]) == rest
        answer = [event["payload"] for event in expected["ended"]]
        assert await _read(backend, session, expected["ended_start"]) == answer
        assert await _read(backend, session, expected["ended"][0]["id"]) == answer[1:]


async def test_answers_are_accepted_once_and_those_that_came_are_there(
    old_store: str, expected: dict[str, Any]
) -> None:
    async with open_store(old_store) as backend:
        session = SessionId(expected["session"])
        assert not await backend.inbox.put(session, expected["answered"], b"again")
        taken = await backend.inbox.take(session, expected["answered"])
        assert taken is not None
        assert json.loads(taken)["id"] == expected["answered"]
        assert await backend.inbox.put(session, expected["pending"], b"{}")
        assert not await backend.inbox.put(session, expected["pending"], b"{}")


async def test_a_client_resumes_what_it_heard_from_the_earlier_release(
    old_store: str, expected: dict[str, Any]
) -> None:
    async with replicas(app_factory("sdk"), count=1, store=old_store) as fleet, fleet.client() as http:
        wire = Wire(fleet, http)
        wire.session = expected["session"]
        async with wire.open(after=expected["ended_start"]) as stream:
            events = [event.data for event in await stream.rest() if event.data]
        assert events == [event["payload"] for event in expected["ended"]]
        async with wire.open(after=expected["standalone"][0]["id"]) as stream:
            assert (await stream.message())["params"]["data"] == "message 1"
            assert (await stream.message())["params"]["data"] == "message 2"
            assert await wire.do("announce") == "announced"
            await stream.method("notifications/tools/list_changed")
        async with wire.open(after=expected["running_start"]) as stream:
            messages = [event.message for event in await stream.rest() if event.data]
        assert messages[-1]["id"] == "seven"
        assert messages[-1]["error"]["data"]["reason"] == "replica-died"
