"""`holdfast`, or `python -m holdfast.ops.cli`: from the command line to the command."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from holdfast.ops.cli.options import add_serve_arguments, serve_options
from holdfast.ops.cli.serve import serve

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return serve(serve_options(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast",
        description="Sessions of MCP servers as data, so that any replica serves any request.",
    )
    parser.add_argument("--version", action="version", version=f"holdfast {version('holdfast')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    about = "serve an MCP server over Streamable HTTP, with sessions that any replica can continue"
    add_serve_arguments(
        commands.add_parser("serve", help=about, description=f"{about[0].upper()}{about[1:]}.")
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
