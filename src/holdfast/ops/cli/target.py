"""From `MODULE:ATTRIBUTE` to the object of that name."""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from holdfast.ops.cli.errors import CliError

__all__ = ["ATTRIBUTES", "load_target"]

ATTRIBUTES: Final = ("mcp", "server", "app")
"""Where a server is looked for when no attribute was named."""

_EXPECTED: Final = "expected MODULE:ATTRIBUTE, such as package.module:mcp or path/to/server.py:mcp"
_FRAMEWORKS: Final = {"mcp": "mcp>=2.3,<3", "mcp_types": "mcp>=2.3,<3", "fastmcp": "fastmcp>=4.1.2,<5"}


def load_target(target: str, is_server: Callable[[object], bool]) -> Any:
    """The object that `target` names, as it is; if it names a module only, the server in it.

    Args:
        target: `package.module`, `path/to/file.py`, each with or without `:attribute`.
        is_server: tells which objects can be served.

    Raises:
        CliError: it cannot be imported, or there is no such thing in it.
    """
    name, attribute = _split(target)
    module = _import(name)
    return _named(module, name, attribute) if attribute else _found(module, name, is_server)


def _split(target: str) -> tuple[str, str]:
    name, colon, attribute = target.rpartition(":")
    if not colon:
        name, attribute = target, ""
    if not name or (colon and not attribute):
        raise CliError(f"got {target!r}, {_EXPECTED}")
    return name, attribute


def _import(name: str) -> ModuleType:
    is_file = name.endswith(".py")
    if not is_file and not re.fullmatch(r"\w+(\.\w+)*", name):
        raise CliError(f"{name!r} is neither a module nor a .py file; {_EXPECTED}")
    try:
        return _import_file(Path(name)) if is_file else _import_module(name)
    except CliError:
        raise
    except ImportError as error:
        raise CliError(_why_not_imported(name, error)) from error
    except SystemExit as error:
        raise CliError(f"{name!r} ended itself while it was imported (exit status {error.code})") from error
    except Exception as error:
        raise CliError(f"{name!r} cannot be imported: {_in_one_line(error)}") from error


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    """Run a file as Python would, with its folder on `sys.path`, but under its own name."""
    if not path.is_file():
        raise CliError(f"there is no file {str(path)!r} (looked in {Path.cwd()})")
    path = path.resolve()
    sys.path.insert(0, str(path.parent))
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names or not path.stem.isidentifier()
    name = "_holdfast_served" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CliError(f"{str(path)!r} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _named(module: ModuleType, name: str, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise CliError(f"{name!r} has no attribute {attribute!r}{_suggestion(module)}") from error
    return found


def _found(module: ModuleType, name: str, is_server: Callable[[object], bool]) -> Any:
    present = [getattr(module, attribute) for attribute in ATTRIBUTES if hasattr(module, attribute)]
    for accepted in (is_server, callable):
        for candidate in present:
            if accepted(candidate):
                return candidate
    raise CliError(
        f"{name!r} has no server named {', '.join(ATTRIBUTES[:-1])} or {ATTRIBUTES[-1]}; "
        f"say which one to serve: {name}:ATTRIBUTE{_suggestion(module)}"
    )


def _suggestion(module: ModuleType) -> str:
    """What in the module looks like a server, for people who misspelled it."""
    names = [n for n, value in vars(module).items() if _looks_like_server(value)]
    return f" (in it: {', '.join(sorted(names)[:5])})" if names else ""


def _looks_like_server(value: object) -> bool:
    return type(value).__module__.partition(".")[0] in _FRAMEWORKS and type(value).__name__ in {
        "FastMCP",
        "MCPServer",
        "Server",
    }


def _why_not_imported(name: str, error: ImportError) -> str:
    missing = error.name or ""
    if isinstance(error, ModuleNotFoundError) and (name == missing or name.startswith(f"{missing}.")):
        return f"there is no module {missing!r} (looked in {Path.cwd()} and in {sys.prefix})"
    framework = missing.partition(".")[0]
    if framework in _FRAMEWORKS:
        return f"{name!r} cannot be imported: {str(error).partition('. ')[0]}. {_framework_hint(framework)}"
    return f"{name!r} cannot be imported: {_in_one_line(error)}"


def _framework_hint(framework: str) -> str:
    needed = _FRAMEWORKS[framework]
    distribution = "mcp" if framework == "mcp_types" else framework
    try:
        installed = version(distribution)
    except PackageNotFoundError:
        return f'It needs {distribution}: pip install "holdfast[{distribution}]"'
    return (
        f"It was written for another version of {distribution} than the {installed} that is installed; "
        f"Holdfast serves what runs on {needed}. Look for a release of it that does"
    )


def _in_one_line(error: BaseException) -> str:
    """The error, and the line of whose code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
