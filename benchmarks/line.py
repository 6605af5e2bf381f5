"""What a benchmark is: a name, a function that measures, and how its rows become a table."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias, TypeVar

Cell: TypeAlias = str | int | float
Row: TypeAlias = Mapping[str, Cell]
Case = TypeVar("Case")

ERROR = "error"
"""The column of a row that says why something could not be measured; it has the keys and no figures."""


@dataclass(frozen=True, slots=True)
class Bench:
    """How thoroughly to measure.

    Attributes:
        quick: just see that it works, and roughly how fast.
        rounds: how often each case is measured; the median counts.
        seconds: how long one measurement of a rate lasts.
    """

    quick: bool
    rounds: int
    seconds: float

    def interleave(self, cases: Sequence[Case]) -> Iterator[Case]:
        """Each case in turn, round after round: a slow phase of the machine hits all of them."""
        for _ in range(self.rounds):
            yield from cases


class Medians:
    """The rows of a line, each the median of what was measured with the same keys.

    Ordered by their keys, from left to right: numbers by their value, texts as they first appeared.
    """

    def __init__(self, keys: Sequence[str], rows: Sequence[Row]) -> None:
        self.keys = tuple(keys)
        groups: dict[tuple[Cell, ...], list[Row]] = {}
        for row in rows:
            if ERROR not in row:
                groups.setdefault(tuple(row[key] for key in keys), []).append(row)
        first = list(dict.fromkeys(cell for at in groups for cell in at))
        rank = {cell: first.index(cell) if isinstance(cell, str) else cell for cell in first}
        self.rows: Sequence[Row] = [
            {**dict(zip(self.keys, at, strict=True)), **_medians(self.keys, groups[at])}
            for at in sorted(groups, key=lambda at: [rank[cell] for cell in at])
        ]
        self.errors: Sequence[Row] = [row for row in rows if ERROR in row]

    def get(self, figure: str, **keys: Cell) -> float | None:
        """One figure of the row with these keys (the columns' names), None if it was not measured."""
        for row in self.rows:
            if figure in row and all(row.get(key) == value for key, value in keys.items()):
                return float(row[figure])
        return None

    def ratio(self, figure: str, of: Mapping[str, Cell], to: Mapping[str, Cell]) -> float | None:
        """One figure divided by another's, None if either is missing."""
        one, other = self.get(figure, **of), self.get(figure, **to)
        return None if one is None or not other else one / other


def _medians(keys: Sequence[str], group: Sequence[Row]) -> Row:
    figures = dict.fromkeys(name for row in group for name in row if name not in keys)
    return {name: median([float(row[name]) for row in group if name in row]) for name in figures}


@dataclass(frozen=True, slots=True)
class Goal:
    """What issue 3 and the design ask for, and what was reached (None: could not be measured)."""

    says: str
    wanted: float
    reached: float | None
    at_least: bool = True

    @property
    def held(self) -> bool:
        if self.reached is None:
            return False
        return self.reached >= self.wanted if self.at_least else self.reached <= self.wanted


@dataclass(frozen=True, slots=True)
class Ratio:
    """A column that says how a figure compares with that of a peer, all other keys being equal."""

    title: str
    figure: str
    key: str
    peer: Cell


def no_goals(medians: Medians) -> Iterable[Goal]:
    """A line that nothing is asked of."""
    del medians
    return ()


@dataclass(frozen=True, slots=True)
class Line:
    """One benchmark.

    Attributes:
        name: for `--only`, and for its place in docs/benchmarks.md: `<!-- bench:NAME -->`.
        keys: columns that say what was measured; the rest of a row are figures.
        figures: columns of figures in the order of the table, with their number of decimals.
        measure: yields a row for each measurement, in any order.
        ratio: a further column.
        goals: judges the medians.
    """

    name: str
    keys: Sequence[str]
    figures: Mapping[str, int]
    measure: Callable[[Bench], Iterable[Row]]
    ratio: Ratio | None = None
    goals: Callable[[Medians], Iterable[Goal]] = no_goals
