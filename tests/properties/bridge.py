"""A store under test for synchronous code: Hypothesis drives it step by step."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

from anyio.from_thread import start_blocking_portal
from typing_extensions import ParamSpec

from holdfast.testing.conformance import StoreUnderTest

P = ParamSpec("P")
T = TypeVar("T")


class Bridge:
    """Two replicas on one store, in an event loop of their own."""

    def __init__(self, store: StoreUnderTest) -> None:
        self.store = store
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
        self.replicas = self._stack.enter_context(self._portal.wrap_async_context_manager(store.replicas(2)))

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function and wait for its result."""

        async def call() -> T:
            return await function(*args, **kwargs)

        return self._portal.call(call)

    def close(self) -> None:
        self._stack.close()
