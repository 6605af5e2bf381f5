"""Running the handler of one POSTed request, to the one answer that it always gets."""

import logging
import random
from typing import Final

import anyio

from holdfast.asgi.exchange import HttpExchange
from holdfast.asgi.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    REQUEST_CANCELLED,
    Notification,
    Request,
    encode_error,
)
from holdfast.errors import HoldfastError, StoreError
from holdfast.sessions.cancellation import is_foreign_cancellation
from holdfast.sessions.relay import LoggedStream, Outlet
from holdfast.sessions.replica import Replica
from holdfast.sessions.running import RunningRequest
from holdfast.sessions.types import Session, SessionFacts, advisory_ttl

__all__ = ["finish", "run_notification", "run_request"]

logger = logging.getLogger("holdfast")

_FINISH_SECONDS: Final = 10.0
"""How long the answer may take to be stored. It is not cancelled with the handler."""

_FINISH_AGAIN_SECONDS: Final = (0.5, 1.5)


_LONGEST_URI: Final = 8192
"""Subscriptions are kept as long as the session."""


async def run_request(
    replica: Replica, exchange: HttpExchange, session: Session, message: Request, outlet: Outlet
) -> None:
    """Run the handler and send its answer, whatever becomes of the handler or of the connection."""
    with replica.running.enter(exchange.session, message.id) as running:
        response: bytes | None = None
        try:
            with running.scope:
                response = await _handle(replica, exchange, session, message)
        except anyio.get_cancelled_exc_class():
            # Not ours to swallow: the HTTP server has run out of patience, or this process ends.
            if replica.ending or not is_foreign_cancellation():
                await _conclude(replica, exchange, outlet, _unanswered(message, running))
                raise
            # Nobody cancelled this handler: it waited for something that somebody else cancelled.
            logger.exception("the handler of %r let a foreign cancellation through", message.method)
            response = encode_error(message.id, INTERNAL_ERROR, "Internal error")
        await _conclude(replica, exchange, outlet, response or _unanswered(message, running))


async def run_notification(
    replica: Replica, exchange: HttpExchange, session: Session, message: Notification
) -> None:
    """Run the handler of a notification, if there is one."""
    with replica.running.enter(exchange.session, None) as running, running.scope:
        await replica.kernel.notify(exchange, session, message.method, message.params)


async def _conclude(replica: Replica, exchange: HttpExchange, outlet: Outlet, response: bytes) -> None:
    exchange.answered = True
    if not outlet.answer_now(response):
        await finish(replica, outlet, response)


async def _handle(replica: Replica, exchange: HttpExchange, session: Session, message: Request) -> bytes:
    if message.method == "resources/subscribe" and len(str((message.params or {}).get("uri"))) > _LONGEST_URI:
        return encode_error(message.id, INVALID_PARAMS, f"uri: longer than {_LONGEST_URI} characters")
    try:
        outcome = await replica.kernel.request(exchange, session, message.method, message.params)
        if outcome.succeeded:
            await _remember(replica, session.facts, message)
    except StoreError as error:
        replica.observer.store_failed(message.method, error)
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
            await replica.backend.subscriptions.add(facts.id, uri, ttl_seconds=advisory_ttl(facts))
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


async def finish(replica: Replica, outlet: Outlet, response: bytes) -> None:
    """Send the answer. If the store fails, keep trying after this returns."""
    with anyio.move_on_after(_FINISH_SECONDS, shield=True):
        try:
            await outlet.finish(response)
        except StoreError as error:
            replica.observer.store_failed("answer", error)
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
