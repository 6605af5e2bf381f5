"""Signals are noticed before the handlers that were there, and reach these all the same."""

import signal
import threading
from collections.abc import Generator

import anyio
import anyio.lowlevel
import pytest

from holdfast.errors import ConfigurationError
from holdfast.integrations.mcp_sdk.termination import Ending, Termination
from holdfast.sessions.drain import Drain, DrainPlan
from holdfast.sessions.hub import Hub
from holdfast.sessions.running import Running


@pytest.fixture
def received() -> Generator[list[int]]:
    """Which signals reached the handlers that were there before."""
    numbers: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: numbers.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_the_first_signal_begins_the_drain_and_is_passed_on_after_the_pause(
    received: list[int],
) -> None:
    drain = Drain(Hub(), Running())
    termination = Termination(drain, DrainPlan(seconds=60, pause_seconds=60))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain.run)
        with termination.chained():
            signal.raise_signal(signal.SIGTERM)
            while not drain.begun:
                await anyio.lowlevel.checkpoint()
            assert received == []
            assert not drain.leaving
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
            while len(received) < 2:
                await anyio.lowlevel.checkpoint()
            assert drain.leaving
        tasks.cancel_scope.cancel()


async def test_ctrl_c_does_not_wait_for_a_balancer(received: list[int]) -> None:
    drain = Drain(Hub(), Running())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain.run)
        with Termination(drain, DrainPlan(seconds=60, pause_seconds=60)).chained():
            signal.raise_signal(signal.SIGINT)
            with anyio.fail_after(5):
                while not received:
                    await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_afterwards_the_handlers_are_those_from_before(received: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Termination(Drain(Hub(), Running()), DrainPlan(seconds=1)).chained():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


async def test_who_came_after_us_stays(received: list[int]) -> None:
    def newer(_number: int, _frame: object) -> None: ...

    with Termination(Drain(Hub(), Running()), DrainPlan(seconds=1)).chained():
        signal.signal(signal.SIGTERM, newer)
    assert signal.getsignal(signal.SIGTERM) is newer


async def test_an_ignored_signal_stays_ignored(received: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Termination(Drain(Hub(), Running()), DrainPlan(seconds=1)).chained():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


async def test_outside_of_the_main_thread_nothing_happens(received: list[int]) -> None:
    termination = Termination(Drain(Hub(), Running()), DrainPlan(seconds=1))
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def elsewhere() -> None:
        with termination.chained():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("name", ["drain_seconds", "drain_pause_seconds"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_wrong_value_is_refused_with_its_name(name: str, value: float) -> None:
    given = {"drain_seconds": 1.0, "drain_pause_seconds": None, "handle_signals": True, name: value}
    with pytest.raises(ConfigurationError, match=name):
        Ending(**given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
