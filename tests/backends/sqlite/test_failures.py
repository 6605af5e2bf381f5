"""What can be wrong with a file: a clear error that says what to do, within a bounded time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions, location, schema
from holdfast.backends.sqlite.database import Database
from holdfast.backends.sqlite.keeper import Keeper
from holdfast.errors import ConfigurationError, StoreError, StoreRefused, StoreUnavailable
from holdfast.sessions.types import STANDALONE
from holdfast.testing.conformance.harness import new_session, read_all
from tests.backends.sqlite.conftest import Sql

SOON = SqliteOptions(busy_seconds=0.2)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def move(path: Path, to: Path) -> None:
    path.rename(to)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path, how: str = "IMMEDIATE") -> Generator[None]:
    """Another program in the middle of a transaction."""
    arguments = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.kill()


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_lock_of_another_program_is_reported_after_a_bounded_wait(path: Path, how: str) -> None:
    async with SqliteBackend(path, options=SOON) as backend:
        session = await new_session(backend)
        event = await backend.log.append(session, STANDALONE, b"before")
        with locked(path, how):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"another program has held a lock .* 0\.2 s"):
                await backend.log.append(session, STANDALONE, b"x")
            assert 0.2 <= time.monotonic() - began < 4  # not the five of the default
            assert await read_all(backend, session, STANDALONE) == [event]  # reading goes on
        assert (await backend.log.append(session, STANDALONE, b"after")).position.offset == 2


async def test_a_short_lock_of_another_program_is_waited_for(path: Path) -> None:
    async with SqliteBackend(path) as backend, anyio.create_task_group() as tasks:
        session = await new_session(backend)
        with locked(path):
            tasks.start_soon(backend.log.append, session, STANDALONE, b"x")
            await anyio.sleep(0.1)
            assert await read_all(backend, session, STANDALONE) == []
        with anyio.fail_after(5):
            while not await read_all(backend, session, STANDALONE):
                await anyio.lowlevel.checkpoint()


async def test_a_locked_file_cannot_be_opened(path: Path) -> None:
    async with SqliteBackend(path):
        pass
    with locked(path), pytest.raises(StoreUnavailable, match="another program"):
        async with SqliteBackend(path, options=SOON):
            pass


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to look like a header" * 20, b"{}"]
)
async def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    write(path, content)
    for _ in range(2):
        with pytest.raises(StoreRefused, match="no SQLite database") as refused:
            async with SqliteBackend(path):
                pass
        assert str(path) in str(refused.value)
    assert read(path) == content


async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path, sql: Sql) -> None:
    sql("CREATE TABLE theirs (a)")
    content = read(path)
    with pytest.raises(StoreRefused, match="belongs to another program"):
        async with SqliteBackend(path):
            pass
    assert read(path) == content


async def test_a_damaged_file_is_refused_with_what_to_do(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        for _ in range(200):
            await backend.log.append(session, STANDALONE, b"x" * 500)
    content = read(path)
    write(path, content[:4096] + os.urandom(len(content) - 4096))
    with pytest.raises(StoreRefused, match=r"the file is damaged.*restore a backup"):
        async with SqliteBackend(path) as backend:
            await backend.log.append(session, STANDALONE, b"x")


@pytest.mark.parametrize("start", [4096, 0])
async def test_a_damaged_file_is_moved_aside_on_request(path: Path, start: int) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        for _ in range(200):
            await backend.log.append(session, STANDALONE, b"x" * 500)
    content = read(path)
    damaged = content[:start] + os.urandom(len(content) - start)
    write(path, damaged)
    async with SqliteBackend(f"sqlite://{path}?on_damage=move_aside") as backend:
        assert await backend.sessions.find(session, owner=None, with_facts=False) is None
        await new_session(backend)
    (aside,) = path.parent.glob("store.db.damaged-*Z")
    assert read(aside) == damaged
    async with SqliteBackend(f"sqlite://{path}?on_damage=move_aside") as backend:
        assert await backend.sessions.count() == 1  # the new one is whole


async def test_a_file_that_others_serve_is_not_moved(path: Path) -> None:
    async with SqliteBackend(path) as one:
        session = await new_session(one)
        write_middle(path)
        async with SqliteBackend(path, options=SqliteOptions(on_damage="move_aside")):
            pass
        assert not list(path.parent.glob("*.damaged-*"))
        assert await one.sessions.find(session, owner=None, with_facts=False)


def write_middle(path: Path) -> None:
    """Break a page of the file that is not looked at when it is opened."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 4096)
        file.write(os.urandom(4096))


async def test_a_later_version_is_refused_with_the_reason(path: Path, sql: Sql) -> None:
    async with SqliteBackend(path):
        pass
    sql(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(StoreRefused, match=f"has version {schema.VERSION + 1}.*later release"):
        async with SqliteBackend(path):
            pass
    assert sql("PRAGMA user_version") == [(schema.VERSION + 1,)]


async def test_a_file_that_was_carried_forward_while_it_was_open_is_not_written_to(
    path: Path, sql: Sql
) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        sql(f"PRAGMA user_version = {schema.VERSION + 1}")
        with pytest.raises(StoreRefused, match="later release"):
            await backend.log.append(session, STANDALONE, b"x")


async def test_a_folder_that_is_not_there_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "store.db", tmp_path):
        with pytest.raises(ConfigurationError, match="folder"):
            async with SqliteBackend(path):
                pass


async def make(path: Path) -> None:
    async with SqliteBackend(path):
        pass


READ_ONLY = """
import anyio, os, sys
from holdfast.backends.sqlite import SqliteBackend
from holdfast.errors import StoreRefused
async def load():
    async with SqliteBackend(sys.argv[1] + ".other"):
        pass
anyio.run(load)  # everything is imported before this is another user
os.chmod(os.path.dirname(sys.argv[1]), 0o555)
if os.path.exists(sys.argv[1]):
    os.chmod(sys.argv[1], 0o444)
os.setuid(65534)
async def main():
    try:
        async with SqliteBackend(sys.argv[1]):
            print("opened")
    except StoreRefused as error:
        print(error)
anyio.run(main)
"""


FULL_DISK = """
import anyio, sys
from pathlib import Path
from holdfast.backends.sqlite import SqliteBackend
from holdfast.errors import StoreRefused
from holdfast.sessions.types import STANDALONE, SessionFacts, SessionId
folder = Path(sys.argv[1])
async def main():
    async with SqliteBackend(folder / "store.db") as backend:
        session = SessionId("s")
        await backend.sessions.open(SessionFacts(session, None, "2025-11-25", b"{}", 60.0), limit=None)
        start, written = (await backend.log.renew([session]))[0].top, 0
        filler = folder / "somebody else's"
        filler.write_bytes(b"x" * 1_000_000)
        try:
            while True:
                await backend.log.append(session, STANDALONE, b"x" * 2000)
                written += 1
        except StoreRefused as error:
            print(error)
        try:
            await backend.replicas.alive(backend.replica)
        except StoreRefused as error:
            print("not ready:", error)
        page = await backend.log.read(session, STANDALONE, after=start, limit=9999)
        print(len(page.events) == written > 0)
        filler.unlink()
        print((await backend.log.append(session, STANDALONE, b"x")).position.offset == written + 1)
        await backend.replicas.beat(60)
        print(await backend.replicas.alive(backend.replica))
anyio.run(main)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_full_fails_what_writes_until_there_is_room(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=1600k none "$1" && exec "$2" -c "$3" "$1"'
    arguments = ["unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL_DISK]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=50, check=False)
    error, ready, *rest = done.stdout.splitlines() or [done.stderr, ""]
    assert "the disk (or a quota) is full" in error, done
    assert "not ready" in ready
    assert rest == ["True", "True", "True"], done


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user: root may write everywhere")
@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_folder_is_refused_with_what_to_do(exists: bool) -> None:
    folder = Path(f"/tmp/holdfast-read-only-{os.getpid()}")  # noqa: S108 - pytest's own folders are private
    folder.mkdir(mode=0o777)
    try:
        if exists:
            anyio.run(make, folder / "store.db")
        arguments = [sys.executable, "-c", READ_ONLY, str(folder / "store.db")]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
        assert "written" in done.stdout or "writable" in done.stdout, done
        assert str(folder) in done.stdout
    finally:
        shutil.rmtree(folder)


async def test_a_full_disk_fails_what_writes_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is simulated: SQLite gives the same error at a limit on the pages of the file."""
    connect = Database.connect

    def limited(self: Database, *, patient: bool = True) -> sqlite3.Connection:
        connection = connect(self, patient=patient)
        connection.execute("PRAGMA max_page_count = 120")
        return connection

    monkeypatch.setattr(Database, "connect", limited)
    async with SqliteBackend(path) as backend:
        session, kept = await new_session(backend), await new_session(backend)
        written = 0
        with pytest.raises(StoreRefused, match=r"the disk .* is full"):  # noqa: PT012 - after how many is not known
            for _ in range(1000):
                await backend.log.append(session, STANDALONE, b"x" * 2000)
                written += 1
        assert len(await read_all(backend, session, STANDALONE)) == written
        with pytest.raises(StoreRefused, match="full"):
            await backend.log.append(session, STANDALONE, b"x" * 9000)
        assert await backend.sessions.close(session)  # room is made
        assert (await backend.log.append(kept, STANDALONE, b"x" * 9000)).position.offset == 1


async def test_one_operation_that_fails_spoils_no_other(path: Path) -> None:
    """They share a transaction: 64 that are good, and one that SQLite refuses."""
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        failed: list[BaseException] = []

        async def append(payload: Any) -> None:
            try:
                await backend.log.append(session, STANDALONE, payload)
            except Exception as error:  # noqa: BLE001 - whatever it is
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            for number in range(65):
                tasks.start_soon(append, object() if number == 30 else b"x")
        assert len(failed) == 1
        events = await read_all(backend, session, STANDALONE)
        assert [event.position.offset for event in events] == list(range(1, 65))


async def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nfs(_: Path) -> str:
        return "nfs4"

    monkeypatch.setattr(location, "_filesystem", nfs)
    with pytest.raises(ConfigurationError, match="network file system"):
        async with SqliteBackend(path):
            pass


async def test_a_backend_that_is_closed_says_so(path: Path) -> None:
    backend = SqliteBackend(path)
    async with backend:
        session = await new_session(backend)
    with pytest.raises(StoreUnavailable, match="not open"):
        await backend.log.append(session, STANDALONE, b"x")
    with pytest.raises(RuntimeError, match="once"):
        await backend.__aenter__()


async def test_nothing_is_left_open_when_opening_fails(path: Path) -> None:
    write(path, b"no database" * 100)
    before = descriptors()
    for _ in range(5):
        with pytest.raises(StoreError):
            async with SqliteBackend(path):
                pass
    assert descriptors() <= before + 1


async def test_a_file_that_was_removed_or_replaced_is_not_written_to(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        move(path, path.with_suffix(".moved"))
        with anyio.fail_after(10), pytest.raises(StoreRefused, match="removed or replaced"):  # noqa: PT012
            while True:  # it looks once a second
                await backend.log.append(session, STANDALONE, b"x")
                await anyio.sleep(0.1)
        for _ in range(3):
            with pytest.raises(StoreRefused, match="removed or replaced"):
                await backend.log.append(session, STANDALONE, b"x")
            with pytest.raises(StoreRefused, match="removed or replaced"):
                await backend.sessions.find(session, owner=None, with_facts=False)
            with pytest.raises(StoreRefused, match="removed or replaced"):
                await backend.replicas.alive(backend.replica)  # what readiness asks


async def test_a_failure_after_the_commit_does_not_store_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Keeper) -> None:
        raise OSError("no more file descriptors")

    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        with monkeypatch.context() as broken:
            broken.setattr(Keeper, "committed", fail)
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(backend.log.append, session, STANDALONE, b"x")
        assert len(await read_all(backend, session, STANDALONE)) == 10
    assert "what follows a transaction failed" in caplog.text
