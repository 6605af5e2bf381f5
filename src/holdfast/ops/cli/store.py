"""Which store the command uses, where that was said, and how it is shown without its password."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from holdfast.backends import open_store, sqlite_file
from holdfast.errors import ConfigurationError
from holdfast.ops.cli.errors import MISUSED, CliError
from holdfast.sessions.protocols import Backend
from holdfast.settings import StoreSettings

__all__ = ["StoreChoice", "choose_store", "file_name_of"]

_DEFAULT: Final = "sqlite://"
_MOST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """A store, not opened yet.

    Attributes:
        url: with its password: not for logs.
        setting: the option or the variable that named it; None if nothing did.
        name: what the file of `sqlite://` is called.
        settings: what else the environment says about it.
    """

    url: str
    setting: str | None
    name: str = "holdfast"
    settings: StoreSettings = field(default_factory=StoreSettings, compare=False)

    @property
    def is_memory(self) -> bool:
        """Whether it ends with the process and cannot be shared."""
        return self.url.startswith("memory://")

    @property
    def is_file(self) -> bool:
        """Whether it is SQLite."""
        return self.url.startswith("sqlite://")

    @property
    def file(self) -> Path:
        """Where the file is, if it is one."""
        return sqlite_file(self.url, name=self.name)

    @property
    def shown(self) -> str:
        """The URL without user, password and options; `sqlite://` as the file that it stands for."""
        if self.is_file:
            return f"sqlite://{self.file}"
        scheme, netloc, path, _, _ = urlsplit(self.url)
        shown = urlunsplit((scheme, netloc.rpartition("@")[2], path, "", ""))
        return shown if netloc else f"{scheme}://{path}"

    def open(self, *, serving: bool = False) -> Backend:
        """The backend, not connected yet; see `open_store`.

        Raises:
            CliError: the URL is wrong, or an extra is missing.
        """
        try:
            fallback = "memory" if self.settings.falls_back(self.setting) else "fail"
            settings = replace(self.settings, fallback=fallback)
            return open_store(self.url, name=self.name, settings=settings, serving=serving)
        except ConfigurationError as error:
            raise self.refused(error) from error

    def refused(self, error: Exception, *, status: int = MISUSED) -> CliError:
        """What to say when the store cannot be used: where it was chosen, or what could be instead."""
        message = str(error).removeprefix("store: ").removeprefix("store URL: ")
        if self.setting is not None:
            return CliError(f"{self.setting}: {message}", status=status)
        advice = "Choose another place with --store sqlite:///PATH, or --store redis://HOST, or memory://"
        return CliError(f"the default store: {message}. {advice}", status=status)


def choose_store(
    given: str | None,
    environment: Mapping[str, str] = os.environ,
    *,
    name: str = "holdfast",
    options: Mapping[str, Any] | None = None,
) -> StoreChoice:
    """The store of the option, else of the environment, else a file called `name`.

    Args:
        given: the option.
        environment: where to look for what was not given.
        name: what the default file is called.
        options: what else was said about the store on the command line.

    Raises:
        CliError: a variable of the environment is wrong.
    """
    try:
        settings = StoreSettings.from_environment(environment).overridden(**(options or {}))
    except ConfigurationError as error:
        raise CliError(str(error), status=MISUSED) from error
    if given is not None:
        return StoreChoice(given, "--store", name, settings)
    if settings.url is not None:
        return StoreChoice(settings.url, settings.url_variable, name, settings)
    return StoreChoice(_DEFAULT, None, name, settings)


def file_name_of(target: str) -> str:
    """What the file of a served `target` is called: the same each time it is served from the same place.

    Many servers are called `server:mcp`. Two of them must not share sessions, so their folder counts too.
    """
    module, _, attribute = target.rpartition(":") if ":" in target else (target, "", "")
    folder = Path.cwd()
    if module.endswith(".py"):
        path = Path(module).absolute()
        folder, module = path.parent, path.stem
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]
    return "-".join(part for part in (module[:_MOST_SHOWN], attribute[:_MOST_SHOWN], digest) if part)
