"""Running the handler of one POSTed request, to the one answer that it always gets."""

import logging
from typing import Final

import anyio

from holdfast.asgi.exchange import HttpExchange
from holdfast.asgi.jsonrpc import INTERNAL_ERROR, REQUEST_CANCELLED, Request, encode_error
from holdfast.errors import HoldfastError, StoreError
from holdfast.sessions.relay import Outlet
from holdfast.sessions.replica import Replica
from holdfast.sessions.running import RunningRequest
from holdfast.sessions.types import Session, SessionFacts, shorten

__all__ = ["run_request"]

logger = logging.getLogger("holdfast")

_FINISH_SECONDS: Final = 10.0
"""How long the answer may take to be stored. It is not cancelled with the handler."""


async def run_request(
    replica: Replica, exchange: HttpExchange, session: Session, message: Request, outlet: Outlet
) -> None:
    """Run the handler and send its answer, whatever becomes of the handler or of the connection."""
    response: bytes | None = None
    with replica.running.enter(exchange.session, message.id) as running:
        try:
            with running.scope:
                response = await _handle(replica, exchange, session, message)
        finally:
            exchange.answered = True
            response = response or _unanswered(message, running)
            if not outlet.answer_now(response):
                with anyio.move_on_after(_FINISH_SECONDS, shield=True):
                    await _finish(outlet, exchange, response)


async def _handle(replica: Replica, exchange: HttpExchange, session: Session, message: Request) -> bytes:
    try:
        outcome = await replica.kernel.request(exchange, session, message.method, message.params)
        if outcome.succeeded:
            await _remember(replica, session.facts, message)
    except StoreError as error:
        data = {"reason": "store-unavailable", "retryable": True}
        return encode_error(message.id, INTERNAL_ERROR, f"The session store failed: {error}", data)
    except Exception:
        logger.exception("the kernel failed on %r", message.method)
        return encode_error(message.id, INTERNAL_ERROR, "Internal error")
    return outcome.response


async def _remember(replica: Replica, facts: SessionFacts, message: Request) -> None:
    """Keep for all replicas what a request changed in its session."""
    params = message.params or {}
    match message.method:
        case "logging/setLevel":
            await replica.set_log_level(facts.id, str(params.get("level")))
        case "resources/subscribe":
            uri = str(params.get("uri"))
            await replica.backend.subscriptions.add(facts.id, uri, ttl_seconds=facts.ttl_seconds)
        case "resources/unsubscribe":
            await replica.backend.subscriptions.remove(facts.id, str(params.get("uri")))
        case _:
            pass


def _unanswered(message: Request, running: RunningRequest) -> bytes:
    if running.session_ended:
        return encode_error(message.id, REQUEST_CANCELLED, "Session ended", {"reason": "session-ended"})
    if running.cancelled:
        return encode_error(message.id, REQUEST_CANCELLED, "Request cancelled")
    data = {"reason": "shutting-down", "retryable": True}
    return encode_error(message.id, INTERNAL_ERROR, "The server is shutting down", data)


async def _finish(outlet: Outlet, exchange: HttpExchange, response: bytes) -> None:
    try:
        await outlet.finish(response)
    except HoldfastError as error:
        logger.warning("answer of session %s could not be stored: %s", shorten(exchange.session), error)
