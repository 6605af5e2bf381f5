"""The handshake era on the SDK's kernel: a `ServerRunner` per session and replica, rehydrated when needed."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import INTERNAL_ERROR, ErrorData, InitializeRequestParams

from holdfast.errors import HoldfastError
from holdfast.integrations.mcp_sdk.context import ExchangeContext, ExchangeOutbound
from holdfast.sessions.protocols import Exchange
from holdfast.sessions.types import Initialized, Outcome, Session, SessionFacts, SessionId, Settings

__all__ = ["SdkKernel"]

logger = logging.getLogger("holdfast")


@dataclass(slots=True)
class _Local:
    """What this replica keeps of a session: the SDK's connection, with the settings last applied to it."""

    runner: ServerRunner[Any]
    settings_version: int = 0
    used: float = field(default_factory=time.monotonic)


class SdkKernel:
    """A `Kernel` that runs the handlers of a low-level `Server`, and so of `MCPServer` and `FastMCP`."""

    def __init__(self, server: Server[Any], lifespan_state: Any) -> None:
        self._server = server
        self._entered = lifespan_state
        self._sessions: dict[SessionId, _Local] = {}

    async def initialize(self, exchange: Exchange, params: Mapping[str, Any] | None) -> Initialized:
        """Run the server's handshake, and keep the connection that it leaves behind."""
        connection = Connection.for_loop(ExchangeOutbound(exchange.standalone), session_id=exchange.session)
        runner = ServerRunner(self._server, connection, self._entered)
        outcome = await _answer(runner, exchange, "initialize", params)
        if not outcome.succeeded or connection.client_params is None:
            return Initialized(outcome.response)
        self._sessions[exchange.session] = _Local(runner)
        client = connection.client_params.model_dump_json(by_alias=True, exclude_none=True).encode()
        return Initialized(outcome.response, connection.protocol_version, client)

    async def request(
        self, exchange: Exchange, session: Session, method: str, params: Mapping[str, Any] | None
    ) -> Outcome:
        """Run the server's handler for a request."""
        local = await self._local(exchange, session)
        return await _answer(local.runner, exchange, method, params)

    async def notify(
        self, exchange: Exchange, session: Session, method: str, params: Mapping[str, Any] | None
    ) -> None:
        """Run the server's handler for a notification."""
        local = await self._local(exchange, session)
        await local.runner.on_notify(ExchangeContext(exchange, params), method, params)

    async def configure(self, session: SessionId, settings: Settings) -> None:
        """Apply settings that were changed on another replica to the connection here, if there is one."""
        local = self._sessions.get(session)
        if local is not None:
            await self._apply(local, settings)

    async def forget(self, session: SessionId) -> None:
        """Drop the connection and run the cleanups that handlers registered on it."""
        local = self._sessions.pop(session, None)
        if local is not None:
            await aclose_shielded(local.runner.connection)

    def idle(self, seconds: float) -> Sequence[SessionId]:
        """Sessions whose connection was not used for `seconds`."""
        before = time.monotonic() - seconds
        return [session for session, local in self._sessions.items() if local.used < before]

    async def aclose(self) -> None:
        """Drop all connections."""
        for session in list(self._sessions):
            await self.forget(session)

    async def _local(self, exchange: Exchange, session: Session) -> _Local:
        local = self._sessions.get(exchange.session)
        if local is None:
            local = self._sessions[exchange.session] = self._rehydrate(exchange, session.facts)
        local.used = time.monotonic()
        await self._apply(local, session.settings, exchange)
        return local

    def _rehydrate(self, exchange: Exchange, facts: SessionFacts) -> _Local:
        """The connection as the replica that served `initialize` has it."""
        connection = Connection(
            ExchangeOutbound(exchange.standalone),
            protocol_version=facts.protocol_version,
            session_id=facts.id,
            client_params=InitializeRequestParams.model_validate_json(facts.client, by_name=False),
        )
        connection.initialized.set()
        return _Local(ServerRunner(self._server, connection, self._entered))

    async def _apply(self, local: _Local, settings: Settings, exchange: Exchange | None = None) -> None:
        """Let the server's own handler set the log level again, as if the client had asked this replica."""
        if settings.version <= local.settings_version:
            return
        if settings.log_level is None or self._server.get_request_handler("logging/setLevel") is None:
            return
        context = ExchangeContext(exchange, None, silent=True)
        try:
            await local.runner.on_request(context, "logging/setLevel", {"level": settings.log_level})
        except Exception:
            logger.exception("the server refused a log level that it had accepted before")
        local.settings_version = max(local.settings_version, settings.version)


async def _answer(
    runner: ServerRunner[Any], exchange: Exchange, method: str, params: Mapping[str, Any] | None
) -> Outcome:
    context = ExchangeContext(exchange, params)
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": exchange.request_id}
    try:
        message["result"] = await runner.on_request(context, method, params)
        return Outcome(pydantic_core.to_json(message), succeeded=True)
    except Exception as error:  # noqa: BLE001 - the border between handlers and the wire
        message.pop("result", None)
        message["error"] = _error_data(error, method).model_dump(
            mode="json", by_alias=True, exclude_none=True
        )
    finally:
        context.close()
    return Outcome(pydantic_core.to_json(message), succeeded=False)


def _error_data(error: Exception, method: str) -> ErrorData:
    known = handler_exception_to_error_data(error)
    if known is not None:
        return known
    if isinstance(error, HoldfastError):
        logger.warning("handler for %r failed: %s", method, error)
        data = {"reason": "store-unavailable", "retryable": True}
        return ErrorData(code=INTERNAL_ERROR, message=f"The session layer failed: {error}", data=data)
    logger.error("handler for %r raised", method, exc_info=error)
    with suppress(Exception):
        # As the SDK's own transports answer in this era.
        return ErrorData(code=0, message=str(error))
    return ErrorData(code=INTERNAL_ERROR, message="Internal error")
