"""`holdfast serve`: one process, or a parent and its workers. Whatever is wrong is said in one line."""

import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Final

from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.options import ServeOptions
from holdfast.ops.cli.sockets import bind, url_of
from holdfast.ops.cli.store import StoreChoice, choose_store, file_name_of

__all__ = ["serve"]

_EXTRAS: Final = {"uvicorn": "cli"}
"""Which extra brings a module; all others that can be missing come with `mcp`."""


def serve(options: ServeOptions) -> int:
    """Serve until told to stop; the exit status of the command."""
    _set_up_logging(options)
    return _reporting(options, lambda: _serve(options))


def _serve(options: ServeOptions) -> int:
    store = choose_store(options.store, name=file_name_of(options.target), options=options.store_options)
    _check_workers(options, store)
    process = _load_process()
    store.open()  # a wrong URL is said before the server is loaded
    sockets = bind(options.host, options.port)

    def announce() -> None:
        _announce(options, store, sockets)

    if options.workers == 1:
        process.run_server(options, store, process.Surroundings(sockets, announce))
        return 0
    return _supervise(options, store, sockets, announce)


def _supervise(
    options: ServeOptions, store: StoreChoice, sockets: list[socket.socket], announce: Callable[[], None]
) -> int:
    # What needs extras, which were checked before.
    from holdfast.ops.cli import process, workers  # noqa: PLC0415
    from holdfast.sessions.drain import PAUSE_SECONDS  # noqa: PLC0415

    def work(surroundings: process.Surroundings) -> int:
        def run() -> int:
            process.run_server(options, store, surroundings)
            return 0

        return _reporting(options, run)

    pause = options.drain_pause_seconds
    return workers.Supervisor(
        count=options.workers,
        sockets=sockets,
        work=work,
        announce=announce,
        drain_seconds=options.drain_seconds + (PAUSE_SECONDS if pause is None else pause),
    ).run()


def _reporting(options: ServeOptions, run: Callable[[], int]) -> int:
    """Turn what is wrong into a line and an exit status."""
    try:
        return run()
    except CliError as error:
        if options.debug:
            traceback.print_exception(error)
        print(f"holdfast serve: {error}", file=sys.stderr, flush=True)
        return error.status


def _set_up_logging(options: ServeOptions) -> None:
    who = "%(process)d " if options.workers > 1 else ""
    logging.basicConfig(
        level=options.log_level.upper(), format=f"%(asctime)s {who}%(levelname)s %(name)s: %(message)s"
    )
    if not options.debug:  # uvicorn narrates its own start and end; we say what matters of it
        logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))


def _check_workers(options: ServeOptions, store: StoreChoice) -> None:
    if options.workers == 1:
        return
    if store.is_memory:
        raise CliError(
            f"--workers {options.workers}: {store.setting} is {store.url}, which lives in one process, so "
            "the workers would not know each other's sessions. Choose a store that they share, with --store "
            "or HOLDFAST_STORE: sqlite://, redis://, rediss://, valkey:// or valkeys://; or serve with "
            "--workers 1"
        )
    if not hasattr(os, "fork"):
        raise CliError(f"--workers {options.workers}: this system cannot fork; serve with --workers 1")


def _load_process() -> ModuleType:
    """What serves, imported late: it needs extras.

    Raises:
        CliError: one is missing, or too old.
    """
    try:
        from holdfast.ops.cli import process  # noqa: PLC0415 - it needs extras
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "holdfast"):
            raise
        extra = _EXTRAS.get(missing, "mcp")
        raise CliError(f'it needs {_present(extra)}: pip install "holdfast[{extra}]"') from error
    return process


def _present(extra: str) -> str:
    needed = {"cli": ("uvicorn", "uvicorn>=0.32"), "mcp": ("mcp", "mcp>=2.3,<3")}
    distribution, requirement = needed[extra]
    try:
        return f"{requirement} (installed: {version(distribution)})"
    except PackageNotFoundError:
        return f"{requirement}, which is not installed"


def _announce(options: ServeOptions, store: StoreChoice, sockets: list[socket.socket]) -> None:
    """Say where the server is, once it is there."""
    processes = "1 process" if options.workers == 1 else f"{options.workers} processes"
    print(
        f"Holdfast {version('holdfast')} serves {options.target}",
        f"  url       {url_of(sockets, options.host, options.path)}",
        f"  store     {store.shown}{_about(store)}",
        f"  replicas  {processes}",
        sep="\n",
        flush=True,
    )


def _about(store: StoreChoice) -> str:
    """What a newcomer should know about a store that he did not choose, or that forgets."""
    if store.setting is None:
        other = "--store redis://HOST for several machines, memory:// to keep nothing"
        return f"\n            (the default: a file on this machine; {other})"
    return " (sessions end with this process)" if store.is_memory else ""
