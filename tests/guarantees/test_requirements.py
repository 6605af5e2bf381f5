"""Each guarantee has tests, and each test that claims to show one is named by it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import pytest

ROOT: Final = Path(__file__).parents[2]
SUITES: Final = ROOT / "src" / "holdfast" / "testing" / "conformance"
IN_ORDER: Final = [f"G{number}" for number in range(1, 20)]
EXPECTED: Final = set(IN_ORDER)


@cache
def requirements() -> dict[str, dict[str, Any]]:
    return tomllib.loads((Path(__file__).parent / "requirements.toml").read_text())


@cache
def marked() -> dict[str, set[str]]:
    """Guarantee: the tests that are marked with it. Read from their source: each of them is collected."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file in (ROOT / "tests").rglob("test_*.py"):
        text = file.read_text()
        if "mark.guarantee" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for name in _marks(node):
                    assert node.name.startswith("test_"), f"{file}: {node.name} is not collected"
                    found[name].add(f"{file.relative_to(ROOT)}::{node.name}")
    return dict(found)


def _marks(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    calls = [each for each in node.decorator_list if isinstance(each, ast.Call)]
    ours = [each for each in calls if ast.unparse(each.func) == "pytest.mark.guarantee"]
    return [cast("str", ast.literal_eval(argument)) for each in ours for argument in each.args]


def test_all_guarantees_are_there() -> None:
    assert set(requirements()) == EXPECTED


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_guarantee_names_its_tests_and_they_name_it(name: str) -> None:
    requirement = requirements()[name]
    assert requirement["tests"], f"{name} is shown by nothing"
    assert set(requirement["tests"]) == marked().get(name, set())
    for suite in requirement["suites"]:
        file, _, test = suite.partition("::")
        assert re.search(rf"^    async def {test}\(", (SUITES / file).read_text(), re.MULTILINE), suite


def test_no_test_claims_a_guarantee_that_does_not_exist() -> None:
    assert set(marked()) <= EXPECTED


def test_the_table_for_readers_has_a_row_for_each() -> None:
    rows = re.findall(r"^\| (G\d+) \|", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    assert rows == IN_ORDER
