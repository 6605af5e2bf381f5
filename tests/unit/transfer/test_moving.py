"""Passes over a store that is in use, and what arrives of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from holdfast.backends.envelope import Codec, EnvelopeBackend, KeyRing
from holdfast.backends.memory import MemoryBackend
from holdfast.ops.transfer.archive import open_archive
from holdfast.ops.transfer.exporting import Exported, export_sessions
from holdfast.ops.transfer.importing import Imported, import_sessions
from holdfast.ops.transfer.looking import look
from holdfast.sessions.image import SessionImage
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE
from holdfast.testing.conformance.harness import new_session, start_of
from holdfast.testing.conformance.transfer import busy_session, dumped


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.holdfast"


class Interrupted(Exception):
    """Somebody lost patience."""


def nothing() -> None:
    """No progress."""


async def exported(source: Backend, path: Path, step: Callable[[], object] = nothing) -> Exported:
    with open_archive(path, source="memory") as archive:
        result = await export_sessions(source, archive, step=step)
    assert result.correct
    return result


async def imported(path: Path, target: Backend, step: Callable[[], object] = nothing) -> Imported:
    with open_archive(path, source=None) as archive:
        return await import_sessions(target, archive, step=step)


async def test_everything_arrives_and_is_counted(path: Path) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    sessions = [await busy_session(source) for _ in range(40)]
    await source.subscriptions.add(sessions[0], "a:1", ttl_seconds=60)
    found = (await exported(source, path)).found
    assert (found.sessions, found.events, found.pending) == (40, 40 * 8, 40 * 3)
    result = await imported(path, target)
    assert result.correct
    assert (result.restored, result.verified) == (40, found)
    for session in sessions:
        assert await look(target, session) == await look(source, session)


async def test_repeating_writes_and_restores_only_what_changed(path: Path) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    sessions = [await busy_session(source) for _ in range(5)]
    await exported(source, path)
    await imported(path, target)
    assert (await exported(source, path)).written == 0
    await source.log.append(sessions[0], STANDALONE, b"more")
    await source.subscriptions.add(sessions[1], "a:1", ttl_seconds=60)
    await source.sessions.close(sessions[2])
    added = await new_session(source)
    pass_two = await exported(source, path)
    assert (pass_two.written, pass_two.ended) == (3, 1)
    result = await imported(path, target)
    assert result.correct
    assert (result.restored, result.updated, result.ended, result.kept) == (1, 2, 1, [])
    for session in (sessions[0], sessions[1], added):
        assert await look(target, session) == await look(source, session)
    assert await look(target, sessions[2]) is None
    again = await imported(path, target)
    assert (again.restored, again.updated, again.ended) == (0, 0, 0)
    assert again.correct


async def test_what_was_used_at_the_destination_is_kept_and_reported(path: Path) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    used, deleted, ended = [await busy_session(source) for _ in range(3)]
    await exported(source, path)
    await imported(path, target)
    for session in (used, ended):
        await target.log.append(session, STANDALONE, b"said here")
    await target.sessions.close(deleted)
    for session in (used, deleted):
        await source.log.append(session, STANDALONE, b"said there")
    await source.sessions.close(ended)
    await exported(source, path)
    result = await imported(path, target)
    assert set(result.kept) == {used, deleted, ended}
    assert (await dumped(target, used)).events[-1].payload == b"said here"
    assert await look(target, deleted) is None
    assert await look(target, ended) is not None


async def test_an_import_that_was_cut_short_goes_on(path: Path) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    for _ in range(40):
        await busy_session(source)
    await exported(source, path)
    steps: list[None] = []

    def interrupt() -> None:
        steps.append(None)
        if len(steps) == 4:
            raise Interrupted

    with pytest.raises(ExceptionGroup) as interrupted:
        await imported(path, target, interrupt)
    assert interrupted.group_contains(Interrupted)
    arrived = await target.sessions.count()
    assert arrived >= 4
    result = await imported(path, target)
    assert (result.restored, result.updated) == (40 - arrived, 0)
    assert result.correct


async def test_subscriptions_that_an_import_did_not_get_to_are_made_up_for(path: Path) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    session = await busy_session(source)
    await source.subscriptions.add(session, "a:1", ttl_seconds=60)
    await target.transfer.restore(await dumped(source, session))
    await exported(source, path)
    assert (await imported(path, target)).correct
    assert await target.subscriptions.uris(session) == ["a:1"]


async def test_sessions_whose_time_ran_out_on_the_way_are_left_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    await new_session(source, ttl_seconds=60)
    long = await new_session(source, ttl_seconds=6000)
    await exported(source, path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 600)
    result = await imported(path, target)
    assert (result.restored, result.expired) == (1, 1)
    assert await target.sessions.list() == [long]


async def test_a_loss_at_the_destination_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = MemoryBackend(), MemoryBackend()
    await busy_session(source)
    await exported(source, path)
    restore = target.transfer.restore

    async def lossy(image: SessionImage, *, over: SessionImage | None = None) -> None:
        await restore(replace(image, asked=()), over=over)

    monkeypatch.setattr(target.transfer, "restore", lossy)
    result = await imported(path, target)
    assert not result.correct
    assert (result.wanted.sessions, result.verified.sessions) == (1, 0)


async def test_what_is_encrypted_stays_encrypted_on_its_way(path: Path) -> None:
    codec = Codec(keys=KeyRing({"k": secrets.token_bytes(32)}))
    source, target = EnvelopeBackend(MemoryBackend(), codec), EnvelopeBackend(MemoryBackend(), codec)
    session = await new_session(source, client=b'{"clientInfo":"confidential"}')
    event = await source.log.append(session, STANDALONE, b"confidential")
    await exported(source, path)
    assert b"confidential" not in await anyio.Path(path).read_bytes()
    assert (await imported(path, target)).correct
    page = await target.log.read(session, STANDALONE, after=await start_of(target, session), limit=1)
    assert list(page.events) == [event]
    found = await target.sessions.find(session, owner=None, with_facts=True)
    assert found is not None
    assert found.facts is not None
    assert found.facts.client == b'{"clientInfo":"confidential"}'
