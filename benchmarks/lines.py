"""All benchmarks, in the order in which they run and stand in the document."""

from collections.abc import Sequence

from benchmarks import append, call, stored
from benchmarks.line import Line

LINES: Sequence[Line] = (call.LINE, append.LINE, stored.LINE)
