"""All benchmarks, in the order in which they run and stand in the document."""

from collections.abc import Sequence

from benchmarks import (
    announce,
    append,
    broadcast,
    call,
    growth,
    idle,
    pauses,
    resume,
    sqlite_append,
    sqlite_processes,
    stored,
)
from benchmarks.line import Line

LINES: Sequence[Line] = (
    call.LINE,
    append.LINE,
    stored.LINE,
    announce.LINE,
    broadcast.LINE,
    resume.LINE,
    growth.LINE,
    idle.LINE,
    pauses.LINE,
    sqlite_append.APPEND,
    sqlite_append.GROWTH,
    sqlite_processes.WAKE,
    sqlite_processes.SHARE,
)
