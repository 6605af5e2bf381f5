"""The file that sessions travel in: whatever happened to it, it is right, goes on, or is refused."""

from __future__ import annotations

import json
import stat
import zlib
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from holdfast.backends.memory import MemoryBackend
from holdfast.errors import ConfigurationError
from holdfast.ops.transfer.archive import Archive, open_archive
from holdfast.ops.transfer.records import Copy, Counts
from holdfast.sessions.types import SessionId
from holdfast.testing.conformance.harness import PAYLOADS
from holdfast.testing.conformance.transfer import busy_session, dumped

SOURCE = "sqlite:///here.db"


@pytest.fixture(scope="module")
def copy() -> Copy:
    return anyio.run(_copy)


async def _copy() -> Copy:
    backend = MemoryBackend()
    session = await busy_session(backend)
    for payload in PAYLOADS:
        await backend.log.append(session, next(iter((await dumped(backend, session)).streams)).name, payload)
    return Copy(await dumped(backend, session), ("a:1", "b:\ud800"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.holdfast"


def written(path: Path, *copies: Copy) -> None:
    with writing(path) as archive:
        for each in copies:
            archive.write(each)
        archive.complete_pass(1000.0, Counts())


def writing(path: Path) -> Archive:
    return open_archive(path, source=SOURCE)


def renamed(copy: Copy, name: str) -> Copy:
    return replace(copy, image=replace(copy.image, facts=replace(copy.image.facts, id=SessionId(name))))


def renewed(copy: Copy) -> Copy:
    return replace(copy, image=replace(copy.image, settings=replace(copy.image.settings, version=99)))


def read(path: Path) -> Archive:
    return open_archive(path, source=None)


def test_a_session_comes_out_as_it_went_in(path: Path, copy: Copy) -> None:
    written(path, copy)
    with read(path) as archive:
        assert archive.copy(copy.id) == copy
        assert (archive.source, archive.passed_at) == (SOURCE, 1000.0)


def test_nobody_else_may_read_it(path: Path, copy: Copy) -> None:
    written(path, copy)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_did_not_change_is_not_written_again(path: Path, copy: Copy) -> None:
    written(path, copy)
    fenced = replace(copy, image=replace(copy.image, epoch="another", fences=(("x", 1),)))
    with writing(path) as archive:
        assert not archive.write(copy)
        assert not archive.write(fenced)
        assert archive.write(replace(copy, subscriptions=()))
        assert archive.write(renewed(copy))


def test_the_last_record_counts_and_all_are_remembered(path: Path, copy: Copy) -> None:
    written(path, copy, renamed(copy, "other"))
    written(path, renewed(copy))
    with read(path) as archive:
        assert archive.copy(copy.id) == renewed(copy)
        assert archive.sessions[copy.id].digests == [copy.digest(), renewed(copy).digest()]
        assert set(archive.living()) == {copy.id, "other"}


def test_what_is_gone_is_gone_until_it_is_written_again(path: Path, copy: Copy) -> None:
    written(path, copy)
    with writing(path) as archive:
        archive.end(copy.id)
        assert (list(archive.living()), list(archive.ended())) == ([], [copy.id])
        assert archive.write(copy)
        assert list(archive.living()) == [copy.id]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_an_export_that_was_cut_short_goes_on_and_is_not_imported(path: Path, copy: Copy, left: int) -> None:
    written(path, copy)
    whole = path.read_bytes()
    written(path, renamed(copy, "other"))
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:left])
    with pytest.raises(ConfigurationError, match="did not come to its end"):
        read(path)
    written(path, renamed(copy, "other"))
    with read(path) as archive:
        assert set(archive.living()) == {copy.id, "other"}


def test_an_export_without_its_last_record_is_not_imported(path: Path, copy: Copy) -> None:
    with writing(path) as archive:
        archive.write(copy)
    with pytest.raises(ConfigurationError, match="did not come to its end"):
        read(path)


def test_every_damaged_byte_is_found(path: Path, copy: Copy) -> None:
    written(path, copy, renamed(copy, "other"))
    whole = path.read_bytes()
    for at in range(0, len(whole) - 1, len(whole) // 50):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        for source in (None, SOURCE):
            with pytest.raises(ConfigurationError):
                open_archive(path, source=source)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"{}\n", b"SQLite format 3\0", b"x" * 100_000])
@pytest.mark.parametrize("source", [None, SOURCE])
def test_files_of_others_are_refused_and_left_alone(path: Path, content: bytes, source: str | None) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no file of `holdfast export`"):
        open_archive(path, source=source)
    assert path.read_bytes() == content


def test_a_file_of_a_later_release_is_refused(path: Path, copy: Copy) -> None:
    written(path, copy)
    lines = path.read_bytes().splitlines(keepends=True)
    head = json.loads(lines[0].partition(b" ")[2]) | {"version": 2}
    text = json.dumps(head).encode()
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(text), text) + b"".join(lines[1:]))
    with pytest.raises(ConfigurationError, match="version 2, this release reads versions up to 1"):
        read(path)


def test_sessions_of_two_stores_do_not_share_a_file(path: Path, copy: Copy) -> None:
    written(path, copy)
    with pytest.raises(ConfigurationError, match="has the sessions of sqlite:///here"):
        open_archive(path, source="redis://there")


def test_a_file_that_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read(path)
