"""Processes that are measured: started on a free port, stopped at the end, and how much CPU they used."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


class DidNotStartError(Exception):
    """A server ended, or did not listen in time; the message has the end of what it printed."""


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Serving:
    """A server process that listens."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """CPU time that the process used so far, all threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_bytes(self) -> int:
        """Memory of the process that is resident and not shared with files."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@contextlib.contextmanager
def serving(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> Generator[Serving]:
    """Run a server; every `{port}` in the command becomes a free port, on which it shall listen.

    Raises:
        DidNotStartError: it does not.
    """
    port = free_port()
    filled = [str(part).replace("{port}", str(port)) for part in command]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(filled, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            if not _listens(process, port):
                output.seek(0)
                printed = output.read().decode(errors="replace").strip()
                raise DidNotStartError(
                    printed[-400:] or f"{filled[:3]} did not listen in {START_SECONDS:g} s"
                )
            yield Serving(process.pid, port)
        finally:
            _stop(process)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
