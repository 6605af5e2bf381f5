"""`holdfast sessions`: what is in a store, for operators."""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TextIO, cast

import anyio

from holdfast.errors import ConfigurationError, SessionGone, StoreError
from holdfast.ops.cli.errors import FAILED, MISUSED, CliError
from holdfast.ops.cli.settings import add_store_options, store_options
from holdfast.ops.cli.store import choose_store
from holdfast.sessions.image import SessionImage
from holdfast.sessions.protocols import Backend
from holdfast.sessions.signals import EVERYBODY, encode_signal
from holdfast.sessions.types import STANDALONE, Position, SessionId

__all__ = ["add_sessions_command", "sessions"]

_PAGE: Final = 500
_LOOK_SECONDS: Final = 2.0
"""A follower looks again after so long, since a hint may get lost."""


def add_sessions_command(commands: Any) -> None:
    """Declare `holdfast sessions` and what it can do."""
    about = "look at the sessions in a store, and end them"
    parser = commands.add_parser("sessions", help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.set_defaults(run=sessions)
    actions = parser.add_subparsers(title="commands", required=True, metavar="ACTION")
    listing = _action(actions, "list", _list, "the ids of open sessions, one in a line")
    listing.add_argument("--owner", help="only those that this principal opened (its digest, see show)")
    listing.add_argument("--limit", type=int, default=100, help="at most so many (default: %(default)s)")
    listing.add_argument("--after", default="", metavar="ID", help="go on behind this id")
    for name, run, about in (
        ("show", _show, "what is known of a session, as JSON"),
        ("tail", _tail, "the messages to its client, one in a line"),
        ("delete", _delete, "end a session on all replicas"),
    ):
        action = _action(actions, name, run, about)
        action.add_argument("session", metavar="ID", help="its id, or the beginning of it, as logs show it")
    tail = actions.choices["tail"]
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until interrupted")
    tail.add_argument(
        "-n", "--lines", type=int, default=10, help="how many to begin with (default: %(default)s)"
    )


def _action(
    actions: Any, name: str, run: Callable[..., Awaitable[None]], about: str
) -> argparse.ArgumentParser:
    parser = cast(
        "argparse.ArgumentParser",
        actions.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}."),
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        help="where the sessions are; `holdfast serve` names it when it starts. Default: HOLDFAST_STORE, "
        "then REDIS_URL",
    )
    add_store_options(parser)
    parser.set_defaults(run_action=run)
    return parser


def sessions(arguments: argparse.Namespace) -> int:
    """Run one of the commands; its exit status."""
    try:
        anyio.run(_run, arguments)
    except CliError as error:
        print(f"holdfast sessions: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    store = choose_store(arguments.store, options=store_options(arguments))
    if store.setting is None or store.is_memory:
        raise CliError(
            "which store? Give --store URL, or set HOLDFAST_STORE; `holdfast serve` names its store when it "
            "starts. The memory of another process cannot be looked into",
            status=MISUSED,
        )
    try:
        async with store.open() as backend:
            await arguments.run_action(backend, arguments)
    except SessionGone:
        raise CliError("the session has ended", status=FAILED) from None
    except (ConfigurationError, StoreError) as error:
        raise store.refused(error, status=FAILED) from error


async def _list(backend: Backend, arguments: argparse.Namespace) -> None:
    left, after = arguments.limit, SessionId(arguments.after)
    while left > 0:
        page = await backend.sessions.list(owner=arguments.owner, limit=min(left, _PAGE), after=after or None)
        for session in page:
            print(session)
        if len(page) < min(left, _PAGE):
            break
        left, after = left - len(page), page[-1]


async def _show(backend: Backend, arguments: argparse.Namespace) -> None:
    image = await _dump(backend, await _resolve(backend, arguments.session))
    client: Any = json.loads(image.facts.client or b"{}") if image.facts.client[:1] == b"{" else {}
    running = [stream for stream in image.streams if stream.state.running and stream.name != STANDALONE]
    about = {
        "session": image.facts.id,
        "owner": image.facts.owner,
        "protocol_version": image.facts.protocol_version,
        "client": client.get("clientInfo"),
        "ttl_seconds": image.facts.ttl_seconds,
        "log_level": image.settings.log_level,
        "subscriptions": list(await backend.subscriptions.uris(image.facts.id)),
        "events": {"kept": len(image.events), "appended": image.top, "bytes": _bytes(image)},
        "running": [{"request": s.state.request_id, "replica": s.state.replica} for s in running],
        "waits_for_client": [asked.request_id for asked in image.asked if asked.answer is None],
        "standalone_stream_read_by": image.holder[0] if image.holder else None,
    }
    print(json.dumps(about, indent=2))


def _bytes(image: SessionImage) -> int:
    return sum(len(event.payload) for event in image.events)


async def _tail(backend: Backend, arguments: argparse.Namespace) -> None:
    session = await _resolve(backend, arguments.session)
    image = await _dump(backend, session)
    offsets = [event.position.offset for event in image.events]
    lines: int = arguments.lines
    seen = offsets[-lines - 1] if len(offsets) > lines else 0
    if not arguments.follow:
        await _print_after(backend, image, seen, sys.stdout)
        return
    async for image in _images(backend, session):
        seen = await _print_after(backend, image, seen, sys.stdout)


async def _images(backend: Backend, session: SessionId) -> AsyncIterator[SessionImage]:
    """The session now, and each time that something may have been appended."""
    news = anyio.Event()

    def wake(*_event: object) -> None:
        news.set()

    async with backend.log.watch(session, wake):
        while True:
            news = anyio.Event()
            yield await _dump(backend, session)
            with anyio.move_on_after(_LOOK_SECONDS):
                await news.wait()


async def _print_after(backend: Backend, image: SessionImage, seen: int, out: TextIO) -> int:
    """Print what lies behind an offset, and return the last one. Read by stream, as a client would."""
    lines: list[tuple[int, str]] = []
    for stream in {event.stream for event in image.events if event.position.offset > seen}:
        after = Position(image.epoch, max(seen, _trimmed(image, stream)))
        page = await backend.log.read(image.facts.id, stream, after=after, limit=_PAGE)
        lines += [
            (e.position.offset, f"{stream} {e.payload.decode('utf-8', 'replace')}") for e in page.events
        ]
    for offset, line in sorted(lines):
        print(offset, line, file=out, flush=True)
    return max([seen, *(offset for offset, _ in lines)])


def _trimmed(image: SessionImage, name: str) -> int:
    return max((stream.trimmed for stream in image.streams if stream.name == name), default=0)


async def _delete(backend: Backend, arguments: argparse.Namespace) -> None:
    session = await _resolve(backend, arguments.session)
    existed = await backend.sessions.close(session)
    await backend.bus.publish(EVERYBODY, encode_signal("ended", session=session))
    await backend.subscriptions.drop(session)
    if not existed:
        raise CliError("the session has ended already", status=FAILED)
    print("deleted")


async def _dump(backend: Backend, session: SessionId) -> SessionImage:
    image = await backend.transfer.dump(session)
    if image is None:
        raise SessionGone("no such session")
    return image


async def _resolve(backend: Backend, given: str) -> SessionId:
    """The one session whose id begins with what was given."""
    beginning = given.rstrip("…")
    if await backend.transfer.dump(SessionId(beginning)) is not None:
        return SessionId(beginning)
    # Ids are in order, so those that begin like this lie behind it.
    found = [
        s for s in await backend.sessions.list(limit=2, after=SessionId(beginning)) if s.startswith(beginning)
    ]
    if len(found) == 1:
        return found[0]
    what = "several sessions begin" if found else "no open session begins"
    raise CliError(f"{what} with {beginning!r}", status=FAILED)
