"""What the tests of the SQLite backend share. All of them work on real files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest


async def until(condition: Callable[[], object]) -> None:
    """Return once something in the file or on the disk is so: nobody tells of that."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.1)


Sql = Callable[..., list[Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def sql(path: Path) -> Sql:
    """Looks into the file as another program would."""

    def execute(statement: str, *arguments: object) -> list[Any]:
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
            return connection.execute(statement, arguments).fetchall()

    return execute
