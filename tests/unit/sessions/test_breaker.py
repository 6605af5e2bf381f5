"""Whether the store is there: found out within a second, and not by mistake."""

from collections.abc import Callable

import anyio
import pytest

from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.breaker import Breaker
from holdfast.sessions.watch import Watch

PATIENCE_SECONDS = 20.0


class Store:
    """Answers at once, never, or with an error."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.frozen = False
        self.asked = 0

    async def ask(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.frozen:
            await anyio.sleep_forever()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.01)


async def test_a_call_that_is_not_answered_opens_it_and_the_first_answer_closes_it() -> None:
    breaker, store = Breaker(), Store()
    store.frozen = True
    changes: list[bool] = []
    breaker.on_change(lambda: changes.append(breaker.open))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Watch(breaker, store.ask).run)
        call = breaker.begin()
        await until(lambda: breaker.open)
        breaker.end(call)
        with pytest.raises(StoreUnavailable, match="away"):
            breaker.begin()
        store.frozen = False
        with anyio.fail_after(PATIENCE_SECONDS):
            await breaker.closed()
        breaker.end(breaker.begin())
        tasks.cancel_scope.cancel()
    assert changes == [True, False]


async def test_a_slow_call_alone_does_not_open_it() -> None:
    breaker, store = Breaker(), Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Watch(breaker, store.ask).run)
        breaker.begin()
        await until(lambda: store.asked >= 3)
        assert not breaker.open
        tasks.cancel_scope.cancel()


async def test_a_call_that_fails_makes_it_ask_and_a_refusal_is_an_answer_of_no_use() -> None:
    breaker, store = Breaker(), Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Watch(breaker, store.ask).run)
        store.error = StoreRefused("no")
        breaker.suspect("StoreUnavailable")
        await until(lambda: store.asked)
        assert not breaker.open
        store.error = StoreUnavailable("gone")
        breaker.suspect("StoreUnavailable")
        await until(lambda: breaker.open)
        tasks.cancel_scope.cancel()


async def test_whoever_waits_for_an_answer_waits_no_longer_than_that() -> None:
    breaker = Breaker()

    async def wait() -> None:
        with pytest.raises(StoreUnavailable), breaker.cutting():
            await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            breaker.trip("frozen")


async def test_while_it_is_open_one_call_is_let_through_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaker, now = Breaker(), 100.0
    monkeypatch.setattr("holdfast.sessions.breaker.time.monotonic", lambda: now)
    breaker.trip("gone")
    with pytest.raises(StoreUnavailable):
        breaker.begin()
    now += 1.1
    breaker.end(breaker.begin())
    with pytest.raises(StoreUnavailable):
        breaker.begin()


async def test_requests_are_held_for_a_while_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sessions.breaker._MOST_HELD", 1)
    breaker = Breaker()
    await breaker.hold(60)
    breaker.trip("gone")
    await breaker.hold(0.01)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(breaker.hold, 60)
            await anyio.wait_all_tasks_blocked()
            await breaker.hold(60)  # the place is taken: at once
            breaker.answered()
