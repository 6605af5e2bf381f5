"""Asking several servers at once, without waiting for those that are slow once somebody has answered."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from holdfast.errors import StoreError, StoreUnavailable

__all__ = ["ask_all"]

_GRACE_SECONDS: Final = 0.1

T = TypeVar("T")


async def ask_all(questions: Iterable[Coroutine[Any, Any, T]], *, seconds: float) -> list[T]:
    """The answers of those that answer: the first, and what comes within a moment after it.

    Raises:
        StoreError: what one of them raised, if none answered within `seconds`.
    """
    tasks = [asyncio.create_task(question) for question in questions]
    failure: StoreError = StoreUnavailable(f"nobody answered within {seconds:g} s")
    answers: list[T] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    pending = set(tasks)
    try:
        while pending and (left := until - loop.time()) > 0:
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                exc = task.exception()
                if exc is None:
                    answers.append(task.result())
                    until = min(until, loop.time() + _GRACE_SECONDS)
                elif isinstance(exc, StoreError):
                    failure = exc
                else:
                    raise exc
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.gather(*pending, return_exceptions=True)
    if not answers:
        raise failure
    return answers
