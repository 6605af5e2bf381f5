"""Which store the command uses, where that was said, and how it is shown without its password."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from holdfast.backends import open_store
from holdfast.errors import ConfigurationError
from holdfast.ops.cli.errors import CliError
from holdfast.sessions.protocols import Backend

__all__ = ["StoreChoice", "choose_store"]


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """A store, not opened yet.

    Attributes:
        url: with its password: not for logs.
        setting: the option or the variable that named it; None if nothing did.
    """

    url: str
    setting: str | None

    @property
    def is_memory(self) -> bool:
        """Whether it ends with the process and cannot be shared."""
        return self.url.startswith("memory://")

    @property
    def shown(self) -> str:
        """The URL without user, password and options."""
        scheme, netloc, path, _, _ = urlsplit(self.url)
        shown = urlunsplit((scheme, netloc.rpartition("@")[2], path, "", ""))
        return shown if netloc else f"{scheme}://{path}"

    def open(self) -> Backend:
        """The backend, not connected yet.

        Raises:
            CliError: the URL is wrong, or an extra is missing.
        """
        try:
            return open_store(self.url)
        except ConfigurationError as error:
            message = str(error).removeprefix("store: ").removeprefix("store URL: ")
            raise CliError(f"{self.setting or '--store'}: {message}") from error


def choose_store(given: str | None, environment: Mapping[str, str] = os.environ) -> StoreChoice:
    """The store of the option, else of the environment, else memory."""
    if given is not None:
        return StoreChoice(given, "--store")
    for variable in ("HOLDFAST_STORE", "REDIS_URL"):
        if url := environment.get(variable):
            return StoreChoice(url, variable)
    return StoreChoice("memory://", None)
