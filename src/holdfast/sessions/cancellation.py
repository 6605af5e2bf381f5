"""Telling apart who was cancelled: this task, or only something that it waits for."""

import asyncio

__all__ = ["is_foreign_cancellation"]


def is_foreign_cancellation() -> bool:
    """Whether a cancellation that has just been caught was not meant for the present task.

    On asyncio whoever awaits a future that somebody else cancels sees the same exception as if it were
    cancelled itself. In a task group that is deadly for all: the group takes its own end for begun.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # trio: nobody is cancelled but by a scope around it
    return task is not None and not task.cancelling()
