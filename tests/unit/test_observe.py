"""Who looks on changes nothing."""

import inspect
import logging

import pytest
from typing_extensions import override

from holdfast.observe import NOBODY, Observer, contained

SEEN = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]


class Failing(Observer):
    """Fails at everything it is told."""

    @override
    def __getattribute__(self, name: str) -> object:
        if name not in SEEN:
            return super().__getattribute__(name)

        def fail(*_args: object) -> None:
            raise RuntimeError(name)

        return fail


def test_without_an_observer_nothing_is_seen() -> None:
    assert contained(None) is NOBODY


def test_an_observer_is_contained_once() -> None:
    once = contained(Failing())
    assert contained(once) is once


@pytest.mark.parametrize("name", SEEN)
def test_what_an_observer_raises_is_logged_and_goes_no_further(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    method = getattr(contained(Failing()), name)
    values: list[object] = ["" for _ in inspect.signature(method).parameters]
    with caplog.at_level(logging.ERROR, "holdfast"):
        method(*values)
    assert [record.message for record in caplog.records] == ["an observer failed"]
