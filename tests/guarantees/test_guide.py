"""The set-up guide does what it says: its shell blocks are run, in order, with real servers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest

from tests.servers import free_port, start_server

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "docs" / "how-to" / "session-persistence.md"
BLOCK: Final = re.compile(r"```bash\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


@pytest.mark.guarantee("G19")
def test_every_shell_block_of_the_guide_does_what_it_says(tmp_path: Path) -> None:
    blocks = BLOCK.findall(GUIDE.read_text())
    assert len(blocks) == GUIDE.read_text().count("```bash")
    (tmp_path / "server.py").write_text((ROOT / "deploy" / "server.py").read_text())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{ROOT / '.tools' / 'redis'}"
    assert shutil.which("redis-cli", path=path), "Debian's redis-tools has it: make redis"
    environment = {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    http = free_port()
    # What the guide of old disabled, nobody needs.
    renamed = [word for name in ("FLUSHALL", "FLUSHDB") for word in ("--rename-command", name, "")]
    with start_server("redis", extra=renamed) as redis:
        try:
            for given, expected in blocks:
                _run(given, expected, {"6379": str(redis.port), "8000": str(http)}, tmp_path, environment)
        finally:
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((tmp_path / "server.pid").read_text()), signal.SIGTERM)


def _run(given: str, expected: str, ports: dict[str, str], folder: Path, environment: dict[str, str]) -> None:
    """One block, in a shell that knows what the blocks before exported."""
    for port, there in ports.items():
        given, expected = given.replace(port, there), expected.replace(port, there)
    script = f"set -euo pipefail\n[ ! -f .exported ] || . ./.exported\n{given}\nexport -p > .exported\n"
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=folder, env=environment, capture_output=True, timeout=50, check=False
    )
    said, problems = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, f"{given}\n{said}{problems}"
    pattern = re.sub(r"\[", "[[]", expected).replace("...", "*")
    assert fnmatchcase(said.replace("\r", ""), pattern), f"{given}\n{said}"
