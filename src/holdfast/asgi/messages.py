"""What both transports do alike with a message of a client, and with what goes wrong meanwhile."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.asgi.exchange import HttpExchange
from holdfast.asgi.guards import Http, Refusal, Scope
from holdfast.asgi.jsonrpc import INTERNAL_ERROR, Answer, Notification
from holdfast.asgi.request import run_notification
from holdfast.asgi.responses import send_refusal
from holdfast.errors import SessionGone, StoreError, TooManySessions
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import Session, SessionFacts, SessionId, shorten

__all__ = [
    "LARGEST_CLIENT_BYTES",
    "open_session",
    "refusing",
    "take_answer",
    "take_notification",
]

logger = logging.getLogger("holdfast")

LARGEST_CLIENT_BYTES: Final = 64 * 1024
"""The params of `initialize` are kept as long as the session."""


async def refusing(replica: Replica, http: Http, serve: Callable[[Http], Awaitable[None]]) -> None:
    """Serve a request; what stands against it is said in its answer."""
    try:
        await serve(http)
    except Refusal as refusal:
        await send_refusal(http.send, refusal)
    except SessionGone:
        await send_refusal(http.send, Refusal(404, "Session not found"))
    except StoreError as error:
        method = http.scope["method"]
        replica.observer.store_failed(method, error)
        logger.warning("store error while serving %s: %s", method, error)
        await send_refusal(http.send, _store_refusal(error))


async def open_session(replica: Replica, facts: SessionFacts) -> SessionFacts:
    """Open a session, and return it as it is kept.

    Raises:
        Refusal: 503, there are too many.
    """
    try:
        opened = await replica.registry.open(facts)
    except BaseException as error:
        await replica.kernel.forget(facts.id)
        if isinstance(error, TooManySessions):
            logger.warning("refused to open a session: %s", error)
            headers = ((b"retry-after", b"10"),)
            raise Refusal(503, "Too many open sessions", code=INTERNAL_ERROR, headers=headers) from None
        raise
    logger.debug("session %s opened", shorten(facts.id))
    return opened


async def take_notification(
    replica: Replica, scope: Scope, body: bytes, message: Notification, session: Session
) -> None:
    """Route what concerns other requests, and start the handler, if there is one."""
    session_id = session.facts.id
    params = dict(message.params or {})
    match message.method, params.get("requestId"):
        case "notifications/cancelled", str() | int() as request_id:
            await replica.cancel(session_id, request_id)
        case "notifications/progress", _:
            await replica.progressed(session_id, params)
        case _:
            pass
    exchange = HttpExchange(replica, session_id, scope, body)
    replica.start(run_notification, replica, exchange, session, message)


async def take_answer(replica: Replica, session: SessionId, message: Answer, body: bytes) -> None:
    """Take an answer to a request of the server.

    One that nobody waits for (late, forged, another session's) changes nothing and gets the same status: an
    honest client that was too late has done nothing wrong, and any other learns nothing.
    """
    if isinstance(message.id, str) and not await replica.backend.inbox.put(session, message.id, body):
        logger.debug("session %s answered a request that is not pending", shorten(session))


def _store_refusal(error: StoreError) -> Refusal:
    seconds = str(max(1, round(error.retry_after_seconds))).encode()
    return Refusal(
        503,
        "The session store cannot be reached now; the session is kept, try again",
        code=INTERNAL_ERROR,
        headers=((b"retry-after", seconds),),
    )
