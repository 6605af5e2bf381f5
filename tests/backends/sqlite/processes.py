"""Other processes on a store's file, as tests see them."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

WORKER = Path(__file__).with_name("worker.py")


class Process:
    """One more replica, in a process of its own."""

    def __init__(self, path: Path, **options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, WORKER, path, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.sent = 0
        self.replica: str = self.receive()[1]

    def send(self, operation: str, *arguments: object) -> int:
        """Ask for something; the answer comes when it comes."""
        self.sent += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([self.sent, operation, *arguments]) + "\n")
        self._process.stdin.flush()
        return self.sent

    def receive(self) -> Any:
        """The next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def do(self, operation: str, *arguments: object) -> Any:
        """Ask, and wait for the answer; nothing else is under way."""
        number = self.send(operation, *arguments)
        answered, result = self.receive()
        assert answered == number
        return result

    def rest(self) -> list[Any]:
        """What it had answered before it ended."""
        assert self._process.stdout is not None
        return [json.loads(line) for line in self._process.stdout if line.endswith("\n")]

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def end(self) -> None:
        """Let it close the file, and wait."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self.rest()
        self._process.wait(20)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()
