"""Running the handler of one POSTed request, to the one answer that it always gets."""

import logging
import random
from typing import Final

import anyio

from holdfast.asgi.exchange import HttpExchange
from holdfast.asgi.jsonrpc import INTERNAL_ERROR, REQUEST_CANCELLED, Request, encode_error
from holdfast.errors import HoldfastError, StoreError
from holdfast.sessions.relay import LoggedStream, Outlet
from holdfast.sessions.replica import Replica
from holdfast.sessions.running import RunningRequest
from holdfast.sessions.types import Session, SessionFacts

__all__ = ["run_request"]

logger = logging.getLogger("holdfast")

_FINISH_SECONDS: Final = 10.0
"""How long the answer may take to be stored. It is not cancelled with the handler."""

_FINISH_AGAIN_SECONDS: Final = (0.5, 1.5)


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
                await _finish(replica, outlet, response)


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


async def _finish(replica: Replica, outlet: Outlet, response: bytes) -> None:
    with anyio.move_on_after(_FINISH_SECONDS, shield=True):
        try:
            await outlet.finish(response)
        except StoreError as error:
            logger.warning("an answer could not be stored, will be tried again: %s", error)
        except HoldfastError as error:
            logger.info("an answer was not stored: %s", error)
            return
        else:
            return
    if isinstance(outlet, LoggedStream) and not replica.ending:
        replica.start(_finish_late, outlet, response)


async def _finish_late(outlet: LoggedStream, response: bytes) -> None:
    """Whoever resumes the stream must find its end. Until it is stored, or the session is gone."""
    while True:
        await anyio.sleep(random.uniform(*_FINISH_AGAIN_SECONDS))
        try:
            with anyio.fail_after(_FINISH_SECONDS):
                await outlet.finish_late(response)
        except (StoreError, TimeoutError):
            continue
        except HoldfastError:
            pass
        return
