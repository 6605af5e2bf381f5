"""Medians as Markdown, written between the markers of docs/benchmarks.md."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.line import ERROR, Cell, Goal, Line, Medians, Ratio, Row

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def table(line: Line, medians: Medians) -> str:
    """The medians of a line, and below them what could not be measured."""
    ratio = [line.ratio.title] if line.ratio else []
    cells = [[*line.keys, *line.figures, *ratio]]
    for row in medians.rows:
        figures = [_number(row.get(name), digits) for name, digits in line.figures.items()]
        compared = [_number(_compare(line.ratio, row, medians), 2)] if line.ratio else []
        cells.append([*(_key(row[key]) for key in line.keys), *figures, *compared])
    return "\n".join([*_markdown(cells, left=len(line.keys)), *_failures(line, medians)])


def name(line: Line, row: Row) -> str:
    """What a row is about, in words."""
    cells = ((key, row[key]) for key in line.keys)
    return ", ".join(cell if isinstance(cell, str) else f"{cell:,} {key}" for key, cell in cells)


def goals(found: Mapping[str, Sequence[Goal]]) -> str:
    """What was asked for, line by line."""
    cells = [["line", "what", "asked", "measured", "held"]]
    for line, its_goals in found.items():
        for goal in its_goals:
            sign = "≥" if goal.at_least else "≤"
            reached = "not measured" if goal.reached is None else f"{goal.reached:,.2f}"
            cells.append(
                [line, goal.says, f"{sign} {goal.wanted:,.9g}", reached, "yes" if goal.held else "**no**"]
            )
    return "\n".join(_markdown(cells, left=2))


def write(sections: Mapping[str, str]) -> None:
    """Put each text between its markers in the document.

    Raises:
        ValueError: the document lacks the markers of one of them.
    """
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, section in sections.items():
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(
                f"{DOCUMENT.name}: put {begin} and {end} where the table of {name!r} shall stand"
            )
        text = pattern.sub(lambda _, body=f"{begin}\n{section}\n{end}": body, text)  # type: ignore[misc]
    DOCUMENT.write_text(text, encoding="utf-8")


def _compare(ratio: Ratio, row: Row, medians: Medians) -> float | None:
    keys = {key: row[key] for key in medians.keys}
    return medians.ratio(ratio.figure, keys, {**keys, ratio.key: ratio.peer})


def _failures(line: Line, medians: Medians) -> list[str]:
    counted: dict[str, int] = {}
    for row in medians.errors:
        text = f"- Failed: {name(line, row)}: {row[ERROR]}"
        counted[text] = counted.get(text, 0) + 1
    texts = [text + (f" ({times} times)" if times > 1 else "") for text, times in counted.items()]
    return ["", *texts] if texts else []


def _key(cell: Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell:,}"


def _number(cell: Cell | None, digits: int) -> str:
    return "" if cell is None else f"{float(cell):,.{digits}f}"


def _markdown(cells: Sequence[Sequence[str]], *, left: int) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    head, *body = cells
    rule = "|".join("-" * (w + 2) if at < left else "-" * (w + 1) + ":" for at, w in enumerate(widths))
    return [line(head), f"|{rule}|", *map(line, body)]
