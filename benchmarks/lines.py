"""All benchmarks, in the order in which they run and stand in the document."""

from collections.abc import Sequence

from benchmarks import call
from benchmarks.line import Line

LINES: Sequence[Line] = (call.LINE,)
