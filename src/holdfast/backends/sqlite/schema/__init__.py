"""The shape of the file, one `.sql` for each version: `0001.sql` makes it, later ones carry it forward."""

from importlib.resources import files
from typing import Final

__all__ = ["APPLICATION_ID", "VERSION", "step"]

APPLICATION_ID: Final = 0x486F6C64
"""`Hold`. In the file's header, so that a file of another program is not touched."""

VERSION: Final = 3
"""The newest version that this release knows; `PRAGMA user_version` of the file."""


def step(version: int) -> str:
    """The statements that lead from the version before to `version`."""
    return (files(__name__) / f"{version:04}.sql").read_text("utf-8")
