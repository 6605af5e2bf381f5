"""Runs the tests of a conformance suite on a store without pytest: which of them fail?"""

import inspect
from collections.abc import Callable, Iterator
from typing import cast

import anyio
import pytest
from trio.testing import MockClock

from holdfast.testing.conformance import StoreUnderTest

CRASHES = (AttributeError, LookupError, NameError, NotImplementedError, RuntimeError, TypeError)
"""A mutant that fails in one of these ways does not break a promise, it is badly made."""


def failing_tests(suite: type, store: Callable[[], StoreUnderTest]) -> list[str]:
    """Names of the tests of `suite` that fail, each run on a new store."""
    names = [name for name, _ in inspect.getmembers(suite, inspect.iscoroutinefunction)]
    tests = [name for name in names if name.startswith("test_")]
    assert tests, f"{suite.__name__} has no tests"
    return [name for name in tests if _fails(suite, name, store())]


def _fails(suite: type, name: str, store: StoreUnderTest) -> bool:
    # On a clock that jumps ahead when everybody waits: what never comes is noticed at once.
    clock = MockClock(autojump_threshold=0)
    try:
        anyio.run(getattr(suite(), name), store, backend="trio", backend_options={"clock": clock})
    except (KeyboardInterrupt, SystemExit):
        raise
    except (Exception, pytest.fail.Exception, BaseExceptionGroup) as error:
        if any(isinstance(leaf, CRASHES) for leaf in _leaves(error)):
            raise
        return True
    return False


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
        yield from _leaves(part)
