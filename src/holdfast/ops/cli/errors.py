"""What ends the command with one line instead of a traceback."""

from typing import Final, cast

__all__ = ["FAILED", "MISUSED", "CliError", "first_cause"]

FAILED: Final = 1
"""Exit status: the command was right, and it did not work."""

MISUSED: Final = 2
"""Exit status: the command or a setting is wrong."""


class CliError(Exception):
    """The command cannot go on. The message says what was given, what is allowed and what to do.

    Attributes:
        status: the exit status of the command.
    """

    def __init__(self, message: str, *, status: int = MISUSED) -> None:
        super().__init__(message)
        self.status = status


def first_cause(failure: BaseException) -> BaseException:
    """The first exception in nested groups: they come from task groups, and say nothing themselves."""
    while isinstance(failure, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", failure)
        failure = group.exceptions[0]
    return failure
