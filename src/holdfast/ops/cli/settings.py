"""What the environment says about a store, as options of the command line. They go before the environment."""

import argparse
from collections.abc import Callable
from typing import Any, Final

from holdfast.errors import ConfigurationError
from holdfast.settings import StoreOptions, read_setting

__all__ = ["add_store_options", "setting", "store_options"]

_FLAGS: Final = (
    (
        "--fallback",
        "fallback",
        "memory|fail",
        "if Redis cannot be reached at the start: serve from memory until then, or end (default: fail)",
    ),
    (
        "--max-events",
        "max_events",
        "N",
        "most events kept for a session, over all its streams (default: 1000)",
    ),
    (
        "--key-prefix",
        "key_prefix",
        "PREFIX",
        "how keys of sessions begin in Redis (default: mcp:session:)",
    ),
    (
        "--connect-timeout",
        "connect_seconds",
        "SECONDS",
        "longest wait for a connection to Redis (default: 2)",
    ),
    ("--answer-timeout", "answer_seconds", "SECONDS", "longest wait for an answer of Redis (default: 5)"),
    ("--probe-interval", "probe_seconds", "SECONDS", "how often each connection is probed (default: 2)"),
)


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Declare them. Keys are given by file or environment only: others can see command lines."""
    group = parser.add_argument_group("store", "Each goes before its variable of the environment.")
    for flag, name, metavar, text in _FLAGS:
        group.add_argument(
            flag, dest=name, type=setting(name), default=argparse.SUPPRESS, metavar=metavar, help=text
        )
    group.add_argument(
        "--compression",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="compress messages from 4 kB (the default); either setting reads what the other wrote",
    )
    group.add_argument(
        "--encryption-keys-file",
        dest="encryption_keys",
        type=_keys_of,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="encrypt messages in the store with the keys in this file, as id:base64, one in a line; the "
        "first one encrypts, all of them decrypt",
    )


def store_options(given: argparse.Namespace) -> dict[str, Any]:
    """Those that were given, by the names of `StoreOptions`."""
    return {name: value for name, value in vars(given).items() if name in StoreOptions.__annotations__}


def setting(name: str) -> Callable[[str], Any]:
    """What reads a setting for argparse, which says itself which option was wrong."""

    def read(text: str) -> Any:
        try:
            return read_setting(name, text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(f"{name}: ")) from None

    return read


def _keys_of(file: str) -> str:
    keys: str = setting("encryption_keys_file")(file)
    return keys
