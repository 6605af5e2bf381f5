"""Holdfast's channels in the shape that the SDK's kernel expects: `Outbound` and `DispatchContext`."""

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final, cast

import anyio
import pydantic_core
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.shared.dispatcher import CallOptions, ProgressFnT
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import MessageMetadata, ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, REQUEST_TIMEOUT, ErrorData
from starlette.requests import Request

from holdfast.asgi.jsonrpc import encode_notification
from holdfast.errors import HoldfastError, SessionGone, StoreError, StreamUnknown
from holdfast.sessions.protocols import Channel, Exchange
from holdfast.sessions.types import AskOptions, RequestId

__all__ = ["ExchangeContext", "ExchangeOutbound"]

logger = logging.getLogger("holdfast")

_TWO_WAY: Final = TransportContext(kind="streamable-http", can_send_request=True)
_MOST_PROGRESS: Final = 100
_ONE_WAY: Final = TransportContext(kind="streamable-http", can_send_request=False)


class ExchangeOutbound:
    """A session's standalone stream as the SDK's `Outbound`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification. The SDK promises that this never raises: what cannot be sent is logged."""
        del opts
        try:
            await self._channel.emit(encode_notification(method, params))
        except HoldfastError as error:
            logger.warning("notification %s was not sent: %s", method, error)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Send a request and return the client's result."""
        return await _ask(self._channel, method, params, opts)


class ExchangeContext:
    """One message of a client as the SDK's `DispatchContext`. `silent`: nothing can be sent from it."""

    __slots__ = (
        "_cancel_requested",
        "_closed",
        "_exchange",
        "_metadata",
        "_progress_token",
        "_silent",
        "transport",
    )

    def __init__(
        self, exchange: Exchange | None, params: Mapping[str, Any] | None, *, silent: bool = False
    ) -> None:
        self._exchange = exchange
        self._silent = silent or exchange is None
        self._closed = False
        self._cancel_requested: anyio.Event | None = None
        self._metadata: ServerMessageMetadata | None = None
        self._progress_token = progress_token_from_params(params)
        can_ask = exchange is not None and not self._silent and exchange.can_ask
        self.transport = _TWO_WAY if can_ask else _ONE_WAY

    @property
    def request_id(self) -> RequestId | None:
        """Id of the request; None for a notification."""
        return None if self._exchange is None else self._exchange.request_id

    @property
    def can_send_request(self) -> bool:
        """Whether the client can be asked something on this request's stream."""
        return not (self._closed or self._silent) and self._exchange is not None and self._exchange.can_ask

    @property
    def cancel_requested(self) -> anyio.Event:
        """Part of the SDK's protocol. Handlers are interrupted when their request is cancelled."""
        if self._cancel_requested is None:
            self._cancel_requested = anyio.Event()
        return self._cancel_requested

    @property
    def message_metadata(self) -> MessageMetadata:
        """The HTTP request, and the ways to close streams where the client can resume them."""
        if self._metadata is None and self._exchange is not None:
            self._metadata = _metadata(self._exchange)
        return self._metadata

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification on this request's stream.

        Raises:
            MCPError: the store failed, and the client would have missed it: the request should fail.
        """
        del opts
        if self._closed or self._silent or self._exchange is None:
            logger.debug("dropped %s: the request is answered", method)
            return
        try:
            await self._exchange.emit(encode_notification(method, params))
        except SessionGone:
            logger.debug("dropped %s: the session ended", method)
        except HoldfastError as error:
            raise _sdk_error(error) from error

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Send a request on this request's stream and return the client's result.

        Raises:
            NoBackChannelError: this message has no stream on which the client could be asked.
            MCPError: the client answered with an error, the time ran out, or the session layer failed.
        """
        if self._exchange is None or not self.can_send_request:
            raise NoBackChannelError(method)
        return await _ask(self._exchange, method, params, opts)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the client asked for it."""
        if self._progress_token is None:
            return
        params: dict[str, Any] = {"progressToken": self._progress_token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await self.notify("notifications/progress", params)

    def close(self) -> None:
        """The request is answered."""
        self._closed = True


def _metadata(exchange: Exchange) -> ServerMessageMetadata:
    closable = exchange.can_close_stream
    return ServerMessageMetadata(
        request_context=_request(exchange),
        close_sse_stream=exchange.close_stream if closable else None,
        close_standalone_sse_stream=exchange.close_standalone if closable else None,
        can_send_request=exchange.can_ask,
    )


def _request(exchange: Exchange) -> Request:
    """The HTTP request for handlers that look at it; its body, already read, can be read again."""
    body = [exchange.body]

    async def receive() -> dict[str, Any]:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        return {"type": "http.disconnect"}

    return Request(exchange.scope, receive)


async def _ask(
    channel: Channel, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None
) -> dict[str, Any]:
    opts = opts or {}
    timeout, on_progress = opts.get("timeout"), opts.get("on_progress")
    try:
        if on_progress is None:
            body = await channel.ask(method, params, AskOptions(timeout))
        else:
            body = await _ask_with_progress(channel, method, params, timeout, on_progress)
    except TimeoutError:
        raise MCPError(REQUEST_TIMEOUT, f"Request {method!r} timed out") from None
    except HoldfastError as error:
        raise _sdk_error(error) from error
    answer = cast("dict[str, Any]", pydantic_core.from_json(body))
    if "error" in answer:
        raise MCPError.from_error_data(ErrorData.model_validate(answer["error"]))
    return cast("dict[str, Any]", answer["result"])


async def _ask_with_progress(
    channel: Channel,
    method: str,
    params: Mapping[str, Any] | None,
    seconds: float | None,
    on_progress: ProgressFnT,
) -> bytes:
    # Progress arrives as a hint, outside of any task: it is queued, and reported in order by a task of ours.
    arrived, queued = anyio.create_memory_object_stream[Mapping[str, Any]](_MOST_PROGRESS)

    def report(progress: Mapping[str, Any]) -> None:
        with contextlib.suppress(anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            arrived.send_nowait(progress)  # what does not fit is superseded by what comes later

    failure: TimeoutError | HoldfastError = TimeoutError()
    async with queued, anyio.create_task_group() as tasks:
        tasks.start_soon(_report_all, on_progress, queued)
        try:
            with arrived:
                return await channel.ask(method, params, AskOptions(seconds, report))
        except (TimeoutError, HoldfastError) as error:
            failure = error
    raise failure


async def _report_all(on_progress: ProgressFnT, queued: MemoryObjectReceiveStream[Mapping[str, Any]]) -> None:
    async for progress in queued:
        await _report(on_progress, progress)


async def _report(on_progress: ProgressFnT, params: Mapping[str, Any]) -> None:
    progress, total, message = params.get("progress"), params.get("total"), params.get("message")
    if not isinstance(progress, int | float) or isinstance(progress, bool):
        return
    try:
        await on_progress(
            float(progress),
            float(total) if isinstance(total, int | float) else None,
            message if isinstance(message, str) else None,
        )
    except Exception:
        logger.exception("a progress callback raised")


def _sdk_error(error: HoldfastError) -> MCPError:
    if isinstance(error, StoreError):
        data = {"reason": "store-unavailable", "retryable": True}
        return MCPError(INTERNAL_ERROR, f"The session layer failed: {error}", data)
    if isinstance(error, StreamUnknown):
        message = "The session layer lost the stream of this request in a failover of the store"
        return MCPError(INTERNAL_ERROR, message, {"reason": "stream-lost", "retryable": True})
    return MCPError(CONNECTION_CLOSED, str(error))
