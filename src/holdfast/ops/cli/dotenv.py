"""The file `.env` of the folder in which a command is run, as a part of its environment."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from holdfast.ops.cli.errors import MISUSED, CliError

__all__ = ["load_dotenv"]


def load_dotenv(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Add what `.env` sets and the environment does not. The commands do this, never the library.

    Raises:
        CliError: there is one, and it cannot be read.
    """
    file = folder / ".env"
    if not file.is_file():
        return
    try:
        from dotenv import dotenv_values  # noqa: PLC0415 - an extra, which few need
    except ModuleNotFoundError:
        raise CliError(
            f'{file}: reading it needs an extra that is not installed: pip install "holdfast[cli]"',
            status=MISUSED,
        ) from None
    try:
        values = dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file}: cannot be read: {error}", status=MISUSED) from None
    for name, value in values.items():
        if value is not None:
            environment.setdefault(name, value)
