"""`holdfast export` and `holdfast import`: all sessions of a store into a file, and out of it."""

import argparse
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from holdfast.errors import ConfigurationError, StoreError
from holdfast.ops.cli.errors import FAILED, CliError, first_cause
from holdfast.ops.cli.settings import add_store_options, store_options
from holdfast.ops.cli.store import StoreChoice, choose_store
from holdfast.ops.transfer.archive import open_archive
from holdfast.ops.transfer.exporting import export_sessions
from holdfast.ops.transfer.importing import import_sessions
from holdfast.ops.transfer.records import Counts
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import shorten

__all__ = ["add_transfer_commands"]

_INTERRUPTED: Final = 130
_MOST_NAMED: Final = 10
_STORE: Final = (
    "its URL, as for `holdfast serve`, which prints the one of a file. Default: the environment's "
    "HOLDFAST_STORE, then REDIS_URL. A password is safer in the environment: others can see command lines"
)
_EXPORT: Final = (
    "Write all sessions of a store into a file, while it is in use. Run it again, and it adds what is new or "
    "changed; also after it was interrupted. The file holds what clients and servers said: it is readable "
    "for you alone, and should be deleted when the move is done."
)
_IMPORT: Final = (
    "Put the sessions of a file into a store, with every event id of their clients still good. Run it again "
    "after another export, and it updates what changed; also after it was interrupted. Sessions that were "
    "used or deleted in the store meanwhile stay as they are."
)

_Step = Callable[[], object]


def add_transfer_commands(commands: Any) -> None:
    """Declare both commands."""
    for name, run, about, description in (
        ("export", _export, "write the sessions of a store into a file, to move them", _EXPORT),
        ("import", _import, "put the sessions of a file into a store", _IMPORT),
    ):
        parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=description)
        parser.add_argument("file", metavar="FILE", type=Path, help="the file")
        parser.add_argument("--store", metavar="URL", help=_STORE)
        add_store_options(parser)
        parser.set_defaults(run=_command(name, run))


def _command(name: str, run: Callable[[Path, StoreChoice], Any]) -> Callable[[argparse.Namespace], int]:
    def command(given: argparse.Namespace) -> int:
        logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
        try:
            correct: bool = anyio.run(run, given.file, _chosen(given))
        except KeyboardInterrupt:
            print(f"holdfast {name}: interrupted. Run it again, it goes on", file=sys.stderr)
            return _INTERRUPTED
        except (CliError, ConfigurationError) as error:
            print(f"holdfast {name}: {error}", file=sys.stderr)
            return error.status if isinstance(error, CliError) else 2
        return 0 if correct else FAILED

    return command


def _chosen(given: argparse.Namespace) -> StoreChoice:
    store = choose_store(given.store, options=store_options(given))
    if store.setting is None:
        raise CliError("--store: which one? Name its URL; `holdfast serve` prints that of its file")
    if store.is_memory:
        raise CliError(f"{store.setting}: {store.url} is in another process's memory, nobody else can see it")
    return store


async def _export(file: Path, store: StoreChoice) -> bool:
    _must_exist(store)
    async with _opened(store) as backend:
        with open_archive(file, source=store.shown) as archive:
            total = await backend.sessions.count()
            with _progress(f"export to {file}", total) as step:
                result = await export_sessions(backend, archive, step=step)
    print(f"{store.shown} -> {file}")
    print(f"  {result.written} sessions written, {result.ended} ended since the last export")
    _print_counts(("in the store", result.found), ("in the file", result.verified))
    return _verdict(correct=result.correct)


async def _import(file: Path, store: StoreChoice) -> bool:
    with open_archive(file, source=None) as archive:
        async with _opened(store) as backend:
            with _progress(f"import from {file}", len(archive.sessions)) as step:
                result = await import_sessions(backend, archive, step=step)
    print(f"{file} -> {store.shown}")
    print(f"  {result.restored} sessions restored, {result.updated} updated, {result.ended} ended")
    if result.expired:
        print(f"  {result.expired} sessions left out: their time has run out since the export")
    for session in result.kept[:_MOST_NAMED]:
        print(f"  session {shorten(session)} was used or deleted in this store: it is left as it is")
    if len(result.kept) > _MOST_NAMED:
        print(f"  and {len(result.kept) - _MOST_NAMED} more")
    _print_counts(("in the file", result.wanted), ("in the store", result.verified))
    return _verdict(correct=result.correct and not result.kept)


def _must_exist(store: StoreChoice) -> None:
    """A store that is not there would be made, and be found to be empty."""
    if store.is_file and not store.file.exists():
        raise CliError(f"{store.setting}: there is no file {store.file}")


@asynccontextmanager
async def _opened(store: StoreChoice) -> AsyncGenerator[Backend]:
    """The store; what is wrong with it ends the command in one line."""
    async with AsyncExitStack() as stack:
        try:
            backend = await stack.enter_async_context(store.open())
        except (StoreError, ConfigurationError) as error:
            raise store.refused(error, status=FAILED) from error
        try:
            yield backend
        except Exception as error:
            cause = first_cause(error)
            if not isinstance(cause, StoreError):
                raise
            raise CliError(f"{store.setting}: {cause}. Run it again, it goes on", status=FAILED) from error


@contextmanager
def _progress(title: str, total: int) -> Generator[_Step]:
    """A bar where somebody looks at it."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda: None
        return
    try:
        from rich.console import Console  # noqa: PLC0415 - comes with the extra `cli`
        from rich.progress import Progress  # noqa: PLC0415
    except ImportError:
        yield lambda: None
        return
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def _print_counts(*rows: tuple[str, Counts]) -> None:
    print(f"  {'':<14}{'sessions':>10}{'events':>12}{'pending':>10}{'bytes':>14}")
    for title, counts in rows:
        print(f"  {title:<14}{counts.sessions:>10}{counts.events:>12}{counts.pending:>10}{counts.bytes:>14}")


def _verdict(*, correct: bool) -> bool:
    print("  verified: all is there" if correct else "  NOT all is there")
    return correct
