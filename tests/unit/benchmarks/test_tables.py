"""What stands in docs/benchmarks.md is what was measured."""

from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Ratio, Row
from benchmarks.lines import LINES

ROWS: list[Row] = [
    {"connections": 16, "server": "peer", "calls/s": 100},
    {"connections": 16, "server": "ours", "calls/s": 300},
    {"connections": 1, "server": "peer", "calls/s": 50},
    {"connections": 16, "server": "ours", "calls/s": 900},
    {"connections": 16, "server": "ours", "calls/s": 400},
    {"connections": 1, "server": "ours", ERROR: "it did not start"},
    {"connections": 1, "server": "ours", ERROR: "it did not start"},
]
LINE = Line(
    name="calls",
    keys=("connections", "server"),
    figures={"calls/s": 0},
    measure=lambda _: ROWS,
    ratio=Ratio("ratio", "calls/s", "server", "peer"),
)
MEDIANS = Medians(LINE.keys, ROWS)


def test_the_median_of_the_rounds_counts_not_the_best() -> None:
    assert MEDIANS.get("calls/s", connections=16, server="ours") == 400


def test_numbers_stand_in_their_order_and_names_as_they_came() -> None:
    assert [(row["connections"], row["server"]) for row in MEDIANS.rows] == [
        (1, "peer"),
        (16, "peer"),
        (16, "ours"),
    ]


def test_what_was_not_measured_has_no_ratio() -> None:
    ours: Row = {"connections": 1, "server": "ours"}
    assert MEDIANS.ratio("calls/s", ours, {**ours, "server": "peer"}) is None


def test_a_table_compares_with_the_peer_and_says_what_failed() -> None:
    text = tables.table(LINE, MEDIANS)
    assert "| 16          | ours   |     400 |  4.00 |" in text
    assert "- Failed: 1 connections, ours: it did not start (2 times)" in text


@pytest.mark.parametrize(("reached", "held"), [(2.0, True), (1.9, False), (None, False)])
def test_a_goal_that_could_not_be_measured_is_not_reached(reached: float | None, held: bool) -> None:
    assert Goal("rate", 2.0, reached).held is held


def test_at_most_means_at_most() -> None:
    assert Goal("bytes", 400, 380, at_least=False).held
    assert not Goal("bytes", 400, 422, at_least=False).held


def test_a_document_gets_new_tables_and_keeps_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- bench:calls -->\nold\n<!-- /bench:calls -->\nafter\n")
    monkeypatch.setattr(tables, "DOCUMENT", document)
    tables.write({"calls": "new \\1"})
    assert document.read_text() == "before\n<!-- bench:calls -->\nnew \\1\n<!-- /bench:calls -->\nafter\n"
    with pytest.raises(ValueError, match="bench:appends"):
        tables.write({"appends": "new"})


def test_every_line_has_its_place_in_the_document() -> None:
    text = tables.DOCUMENT.read_text()
    names = [line.name for line in LINES]
    assert len(set(names)) == len(names)
    assert [name for name in [*names, "goals"] if f"<!-- bench:{name} -->" not in text] == []


def test_rounds_are_interleaved() -> None:
    assert list(Bench(quick=True, rounds=2, seconds=1).interleave(["a", "b"])) == ["a", "b", "a", "b"]
