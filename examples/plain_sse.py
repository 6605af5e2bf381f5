"""A chat over any number of workers, without MCP: plain server-sent events.

    HOLDFAST_STORE=redis://localhost:6379 uvicorn examples.plain_sse:app --workers 4

    curl -N 'localhost:8000/events?name=ada'
    curl -X POST 'localhost:8000/say?name=bob' -d 'hello'            # everybody
    curl -X POST 'localhost:8000/say?name=bob&to=ada' -d 'psst'      # one

Whoever is cut off comes back with `Last-Event-ID`, as a browser's EventSource does, and has missed nothing. A
client that does not read is cut off when 256 KiB wait for it, or when one write takes longer than 10 s.

Here a name is all that it takes to be somebody: a real application would take it from its login.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import holdfast

MOST_BYTES = 4096

manager = holdfast.LogSessionManager(os.environ.get("HOLDFAST_STORE", "memory://chat"), ttl_seconds=300)


async def events(request: Request) -> Response:
    """The stream of one person."""
    response = holdfast.SseResponse()
    last_event_id = request.headers.get("last-event-id")
    try:
        await manager.create(request.query_params.get("name", ""), response, last_event_id=last_event_id)
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
    return response


async def say(request: Request) -> Response:
    """Say something to one person, or to all."""
    text = (await request.body())[: MOST_BYTES + 1]
    if len(text) > MOST_BYTES:
        return JSONResponse({"error": f"at most {MOST_BYTES} bytes"}, 413)
    to = request.query_params.getlist("to") or None
    message = {"from": request.query_params.get("name", ""), "text": text.decode(errors="replace")}
    await manager.send(to, message)
    return Response(status_code=202)


async def leave(request: Request) -> Response:
    """Be gone for good: the name cannot be used again for a while."""
    await manager.delete(request.query_params.get("name", ""))
    return Response(status_code=204)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
    """One session manager for each worker."""
    async with manager:
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/events", events),
        Route("/events", leave, methods=["DELETE"]),
        Route("/say", say, methods=["POST"]),
    ],
)
