"""A `Kernel` for sessions that carry no MCP."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from typing_extensions import override

from holdfast.sessions.protocols import Exchange, Kernel
from holdfast.sessions.types import Session, SessionId, Settings

__all__ = ["NoKernel"]


class NoKernel(Kernel):
    """Nothing is asked of it: no message of a client comes in."""

    @override
    async def initialize(self, exchange: Exchange, params: Mapping[str, Any] | None) -> NoReturn:
        raise NotImplementedError

    @override
    async def request(
        self, exchange: Exchange, session: Session, method: str, params: Mapping[str, Any] | None
    ) -> NoReturn:
        raise NotImplementedError

    @override
    async def notify(
        self, exchange: Exchange, session: Session, method: str, params: Mapping[str, Any] | None
    ) -> None:
        raise NotImplementedError

    @override
    async def configure(self, session: SessionId, settings: Settings) -> None:
        """There is nothing to configure."""

    @override
    async def forget(self, session: SessionId) -> None:
        """There is nothing to forget."""

    @override
    def idle(self, seconds: float) -> Sequence[SessionId]:
        return ()
