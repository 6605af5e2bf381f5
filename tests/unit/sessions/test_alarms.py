"""The one timer: it calls back in order, and sleeps while nothing is pending."""

from collections.abc import Callable

import anyio

from holdfast.sessions.alarms import Alarms


class Calls:
    """Who was called back, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = anyio.Event()

    def by(self, name: str) -> Callable[[], None]:
        def call() -> None:
            self.names.append(name)
            self._changed.set()

        return call

    async def reach(self, count: int) -> None:
        with anyio.fail_after(5):
            while len(self.names) < count:
                self._changed = anyio.Event()
                await self._changed.wait()


async def test_alarms_ring_in_order_and_only_once() -> None:
    alarms, calls = Alarms(), Calls()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarms.run)
        alarms.set(0.01, calls.by("one"))
        alarms.set(0.01, calls.by("two"))
        await calls.reach(2)
        alarms.set(0.01, calls.by("three"))
        await calls.reach(3)
        tasks.cancel_scope.cancel()
    assert calls.names == ["one", "two", "three"]


async def test_what_is_not_due_does_not_ring() -> None:
    alarms, calls = Alarms(), Calls()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarms.run)
        alarms.set(0.01, calls.by("soon"))
        alarms.set(3600, calls.by("in an hour"))
        await calls.reach(1)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert calls.names == ["soon"]


async def test_an_alarm_that_was_set_before_the_timer_ran_rings_as_well() -> None:
    alarms, calls = Alarms(), Calls()
    alarms.set(0, calls.by("early"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(alarms.run)
        await calls.reach(1)
        tasks.cancel_scope.cancel()
