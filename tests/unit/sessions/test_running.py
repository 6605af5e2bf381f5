"""Handlers at work: whoever waits for their end hears of it."""

import anyio

from holdfast.sessions.running import Running
from holdfast.sessions.types import SessionId


async def test_everybody_who_waits_for_the_last_handler_hears_that_it_has_ended() -> None:
    """A drain and the end of its replica may do so at once."""
    running = Running()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            with running.enter(SessionId("s"), 1):
                for _ in range(3):
                    tasks.start_soon(running.empty)
                    await anyio.wait_all_tasks_blocked()
