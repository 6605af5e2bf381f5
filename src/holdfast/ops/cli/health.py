"""`holdfast health`: how a running server is, or a store alone."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from typing import Any, Final, cast
from urllib.parse import urlsplit

import anyio

from holdfast.errors import ConfigurationError, StoreError
from holdfast.ops.cli.errors import FAILED, MISUSED, CliError
from holdfast.ops.cli.settings import add_store_options, store_options
from holdfast.ops.cli.store import choose_store

__all__ = ["add_health_command", "health"]

_ANSWER_SECONDS: Final = 3.0
"""The routes answer within one."""


def add_health_command(commands: Any) -> None:
    """Declare `holdfast health`."""
    about = "how a running server is, or a store alone"
    parser = commands.add_parser(
        "health",
        help=about,
        description=f"{about[0].upper()}{about[1:]}. Exit status: 0 it serves, 1 it does not, 2 a mistake.",
    )
    parser.set_defaults(run=health)
    parser.add_argument(
        "server",
        nargs="?",
        metavar="URL",
        help="http(s)://HOST:PORT of a server with the routes of holdfast.ops.health, which `holdfast serve` "
        "has. Without it the store is asked",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--store", metavar="URL", help="the store to ask. Default: HOLDFAST_STORE, then REDIS_URL"
    )
    add_store_options(parser)


def health(arguments: argparse.Namespace) -> int:
    """Say how it is; the exit status."""
    try:
        if arguments.server is not None:
            return _of_server(arguments.server, as_json=arguments.json)
        return anyio.run(_of_store, arguments)
    except CliError as error:
        print(f"holdfast health: {error}", file=sys.stderr)
        return error.status


def _of_server(url: str, *, as_json: bool) -> int:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise CliError(f"URL: got {url!r}, expected http://HOST:PORT; a store goes behind --store")
    base = f"{parts.scheme}://{parts.netloc}"
    answers = {name: _ask(f"{base}/health/{name}") for name in ("live", "ready")}
    if as_json:
        print(json.dumps(answers, indent=2))
    else:
        for name, answer in answers.items():
            reasons: list[str] = answer.get("reasons", [])
            print("\n".join([f"{answer.get('status', name)}", *(f"- {reason}" for reason in reasons)]))
    return 0 if all(answer["ok"] for answer in answers.values()) else FAILED


def _ask(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as response:  # noqa: S310 - http(s), see above
            return {"ok": True, **cast("dict[str, Any]", json.load(response))}
    except urllib.error.HTTPError as error:
        if error.code != 503:  # noqa: PLR2004 - what the routes answer if it is not well
            raise CliError(f"{url}: status {error.code}, expected 200 or 503: no such route") from None
        return {"ok": False, **cast("dict[str, Any]", json.load(error))}
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CliError(f"{url}: {reason}", status=FAILED) from None


async def _of_store(arguments: argparse.Namespace) -> int:
    from holdfast.ops.health.examination import probe  # noqa: PLC0415 - `--help` needs no extra
    from holdfast.ops.health.report import render, report  # noqa: PLC0415

    store = choose_store(arguments.store, options=store_options(arguments))
    if store.setting is None or store.is_memory:
        raise CliError(
            "what should be asked? Give the URL of a server, or --store URL, or set HOLDFAST_STORE. The "
            "memory of another process cannot be looked into",
            status=MISUSED,
        )
    try:
        async with store.open() as backend:
            data = report(await probe(backend.diagnosis), asked_by_client=False)
    except (ConfigurationError, StoreError) as error:
        raise store.refused(error, status=FAILED) from error
    print(json.dumps(data, indent=2) if arguments.json else render(data))
    return 0 if data["overall_status"] in {"healthy", "degraded"} else FAILED
