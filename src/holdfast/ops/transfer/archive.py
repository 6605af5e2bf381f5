"""The file that sessions travel in: one record a line, each with its checksum, only ever appended to.

The first record says what the file is. Then, for each pass of an export, the sessions that are new or changed
since (`session`), those that are gone (`ended`), and at its end that it is complete (`pass`). What a session
is in the file is its last record. A line is `<CRC-32 in hex> <JSON>`.
"""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from holdfast.errors import ConfigurationError
from holdfast.ops.transfer.records import Copy, Counts
from holdfast.sessions.types import SessionId

__all__ = ["Archive", "Kept", "open_archive"]

_FORMAT: Final = "holdfast-sessions"
_VERSION: Final = 1
_HEAD_BYTES: Final = 64 * 1024
_FAULTS: Final = (LookupError, TypeError, ValueError)


@dataclass(slots=True)
class Kept:
    """What the file has of one session.

    Attributes:
        at: where its last record begins.
        digests: of all its records, the last one last. Empty at the end: it is gone.
    """

    at: int
    digests: list[str]

    @property
    def living(self) -> bool:
        """Whether it was there at the last look."""
        return bool(self.digests[-1])


@dataclass(slots=True)
class Archive:
    """A file of sessions, open; a context manager that closes it.

    Attributes:
        source: of which store; without password.
        sessions: all that were ever written.
        passed_at: when the last pass was complete, in seconds since 1970; None: none ever was.
        complete: whether nothing was written after that.
    """

    path: Path
    source: str
    _file: BinaryIO
    sessions: dict[SessionId, Kept] = field(default_factory=dict[SessionId, Kept])
    passed_at: float | None = None
    complete: bool = False

    def __enter__(self) -> Self:
        """Nothing: it is open."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self._file.close()

    def living(self) -> Iterator[SessionId]:
        """Sessions that were there at the last look."""
        return (session for session, kept in self.sessions.items() if kept.living)

    def ended(self) -> Iterator[SessionId]:
        """Sessions that were there, and are gone."""
        return (session for session, kept in self.sessions.items() if not kept.living)

    def copy(self, session: SessionId) -> Copy:
        """The last record of a session."""
        self._file.seek(self.sessions[session].at)
        return Copy.of(_parsed(self._file.readline())["session"])

    def write(self, copy: Copy) -> bool:
        """Append a session, unless it is there already; whether that was needed."""
        digest, kept = copy.digest(), self.sessions.get(copy.id)
        if kept is not None and kept.digests[-1] == digest:
            return False
        at = self._append({"kind": "session", "digest": digest, "session": copy.record()})
        self._note(copy.id, at, digest)
        return True

    def end(self, session: SessionId) -> None:
        """Note that a session is gone."""
        self._note(session, self._append({"kind": "ended", "id": session}), "")

    def complete_pass(self, at: float, counts: Counts) -> None:
        """Note that all sessions were looked at, and see to it that the file is on the disk."""
        self._append({"kind": "pass", "at": at, **counts.record()})
        self._file.flush()
        os.fsync(self._file.fileno())
        self.passed_at, self.complete = at, True

    def _append(self, record: dict[str, Any]) -> int:
        at = self._file.seek(0, os.SEEK_END)
        self._file.write(_line(record))
        self.complete = False
        return at

    def _note(self, session: SessionId, at: int, digest: str) -> None:
        kept = self.sessions.get(session)
        if kept is None:
            self.sessions[session] = Kept(at, [digest])
        else:
            kept.at = at
            kept.digests.append(digest)

    def load(self, *, repair: bool) -> None:
        """Read the whole file and check every record; `repair`: cut off a record that was not finished."""
        while line := self._file.readline():
            at = self._file.tell() - len(line)
            try:
                self._take(at, _parsed(line))
            except _FAULTS as fault:
                if line.endswith(b"\n") or self._file.read(1):
                    raise ConfigurationError(
                        f"{self.path}: the record at byte {at} is damaged; export into another file"
                    ) from fault
                self.complete = False
                if repair:
                    self._file.truncate(at)
                break
        if not repair and not self.complete:
            raise ConfigurationError(
                f"{self.path}: the export into this file did not come to its end. Run it again, it goes on "
                "where it was"
            )

    def _take(self, at: int, record: dict[str, Any]) -> None:
        kind = record["kind"]
        self.complete = kind == "pass"
        if kind == "session":
            self._note(SessionId(record["session"]["facts"]["id"]), at, record["digest"])
        elif kind == "ended":
            self._note(SessionId(record["id"]), at, "")
        elif kind == "pass":
            self.passed_at = float(record["at"])


def open_archive(path: Path, *, source: str | None) -> Archive:
    """The archive in a file, all of it checked.

    Args:
        path: of the file.
        source: to be written to, with what this store has; made if it is not there. None: to be read.

    Raises:
        ConfigurationError: it is none, is damaged, of a later release, not finished, or of another store.
    """
    try:
        if source is not None and not path.exists():
            return _made(path, source)
        file = path.open("rb" if source is None else "r+b")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    try:
        archive = Archive(path, _source(path, file, source), file)
        archive.load(repair=source is not None)
    except BaseException:
        file.close()
        raise
    return archive


def _made(path: Path, source: str) -> Archive:
    """It holds what clients and servers said: nobody else may read it, from its first byte on."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b")
    file.write(_line({"kind": _FORMAT, "version": _VERSION, "source": source}))
    return Archive(path, source, file)


def _source(path: Path, file: BinaryIO, wanted: str | None) -> str:
    try:
        head = _parsed(file.readline(_HEAD_BYTES))
        version, source = (int(head["version"]), str(head["source"])) if head["kind"] == _FORMAT else (0, "")
    except _FAULTS:
        version, source = 0, ""
    if not version:
        raise ConfigurationError(f"{path} is no file of `holdfast export`")
    if version > _VERSION:
        raise ConfigurationError(
            f"{path} has version {version}, this release reads versions up to {_VERSION}: use a later one"
        )
    if wanted is not None and wanted != source:
        raise ConfigurationError(
            f"{path} has the sessions of {source}; export those of {wanted} into another file"
        )
    return source


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> dict[str, Any]:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or int(checksum, 16) != zlib.crc32(text):
        raise ValueError("wrong checksum")
    record: dict[str, Any] = json.loads(text)
    return record
