"""`holdfast`, or `python -m holdfast.ops.cli`: from the command line to the command."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from holdfast.ops.cli.dotenv import load_dotenv
from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.health import add_health_command
from holdfast.ops.cli.options import add_serve_arguments, serve_options
from holdfast.ops.cli.serve import serve
from holdfast.ops.cli.sessions import add_sessions_command
from holdfast.ops.cli.transfer import add_transfer_commands

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        load_dotenv(Path.cwd())
    except CliError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return error.status
    return run(given)


def _serve(given: argparse.Namespace) -> int:
    return serve(serve_options(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast",
        description="Sessions of MCP servers as data, so that any replica serves any request.",
    )
    parser.add_argument("--version", action="version", version=f"holdfast {version('holdfast')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    about = "serve an MCP server over Streamable HTTP, with sessions that any replica can continue"
    serving = commands.add_parser("serve", help=about, description=f"{about[0].upper()}{about[1:]}.")
    serving.set_defaults(run=_serve)
    add_serve_arguments(serving)
    add_transfer_commands(commands)
    add_sessions_command(commands)
    add_health_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
