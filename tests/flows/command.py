"""`holdfast serve` as a process of its own, and a client made by hand that talks to it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.flows.wire import Stream

__all__ = ["PATIENCE_SECONDS", "Client", "Command", "connected", "refused", "serving", "until"]

PATIENCE_SECONDS: Final = 45.0
"""A command that starts imports for seconds, and on a busy machine many do at once. A test has 60."""
HEADERS: Final = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": "2025-11-25",
}


@dataclass
class Command:
    """A running `holdfast serve`."""

    process: anyio.abc.Process
    said: list[str]
    log: Path

    @property
    def url(self) -> str:
        (line,) = [line for line in self.said if line.startswith("url")]
        return line.split()[1]

    @property
    def output(self) -> str:
        """All that it wrote."""
        return "\n".join(self.said) + self.log.read_text()

    async def ended(self) -> int:
        with anyio.fail_after(PATIENCE_SECONDS):
            return await self.process.wait()


def environment(folder: Path, store: str | None) -> dict[str, str]:
    """Without a store, sessions are kept in a file; not in the one of whoever runs the tests."""
    chosen = {"HOLDFAST_STORE": store} if store else {}
    return {**os.environ, "XDG_STATE_HOME": str(folder / "state"), **chosen}


@asynccontextmanager
async def serving(
    folder: Path, *arguments: str, store: str | None = None, source: Path | None = None
) -> AsyncGenerator[Command]:
    """Run the command on a free port until the block ends; entered when it says that it serves.

    `source` is where the code of another release is.
    """
    log = folder / "stderr.log"
    program = [sys.executable, "-m", "holdfast.ops.cli", "serve", "--port", "0", *arguments]
    with log.open("wb") as errors:
        variables = environment(folder, store) | ({"PYTHONPATH": str(source)} if source else {})
        process = await anyio.open_process(
            program, cwd=folder, env=variables, stderr=errors, start_new_session=True
        )
    try:
        yield Command(process, await _announcement(process, log), log)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _announcement(process: anyio.abc.Process, log: Path) -> list[str]:
    assert process.stdout is not None
    said: list[str] = []
    stream = BufferedByteReceiveStream(process.stdout)
    with anyio.fail_after(PATIENCE_SECONDS):
        while not (said and said[-1].startswith("replicas")):
            try:
                said.append((await stream.receive_until(b"\n", 10_000)).decode().strip())
            except anyio.IncompleteRead:
                problems = await anyio.Path(log).read_text()
                raise AssertionError(f"it ended at its start: {said} {problems}") from None
    return said


async def _end(process: anyio.abc.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(PATIENCE_SECONDS):
            await process.wait()
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()


async def refused(folder: Path, *arguments: str, store: str | None = None) -> tuple[int, str]:
    """Run a command that cannot serve; its exit status and what it said."""
    with anyio.fail_after(PATIENCE_SECONDS):
        done = await anyio.run_process(
            [sys.executable, "-m", "holdfast.ops.cli", "serve", *arguments],
            cwd=folder,
            env=environment(folder, store),
            check=False,
        )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


class Client:
    """A client made by hand, with one session."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.http = http
        self.url = url
        self.headers = dict(HEADERS)

    async def initialize(self) -> httpx2.Response:
        params: dict[str, Any] = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "hand", "version": "1"},
        }
        response = await self.post("initialize", params)
        if response.status_code == 200:
            self.headers["mcp-session-id"] = response.headers["mcp-session-id"]
        return response

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool; the text that it answers."""
        response = await self.post("tools/call", {"name": tool, "arguments": arguments})
        assert response.status_code == 200, response.text
        text: str = _message(response)["result"]["content"][0]["text"]
        return text

    async def post(self, method: str, params: dict[str, Any]) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.http.post(self.url, json=message, headers=self.headers)

    @asynccontextmanager
    async def stream(
        self, tool: str | None = None, *, after: str | None = None, **arguments: Any
    ) -> AsyncGenerator[Stream]:
        """The stream of a call; without a tool the standalone one, or whichever `after` belongs to."""
        headers = self.headers | ({"last-event-id": after} if after else {})
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": "streamed", "method": "tools/call", "params": params}
        method, content = ("POST", json.dumps(message)) if tool else ("GET", None)
        async with self.http.stream(method, self.url, headers=headers, content=content) as response:
            assert response.status_code == 200
            chunks = response.aiter_raw()
            try:
                yield Stream(response, chunks)
            finally:
                with anyio.CancelScope(shield=True):
                    await chunks.aclose()

    async def answer(self, question: dict[str, Any], content: dict[str, Any]) -> int:
        """Accept what the server asks for; the status."""
        result = {"action": "accept", "content": content}
        message = {"jsonrpc": "2.0", "id": question["id"], "result": result}
        return (await self.http.post(self.url, json=message, headers=self.headers)).status_code

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[httpx2.Response]:
        """The standalone stream, open."""
        async with self.http.stream("GET", self.url, headers=self.headers) as response:
            assert response.status_code == 200
            yield response


def _message(response: httpx2.Response) -> dict[str, Any]:
    """The answer, whether it came as JSON or as the last event of a stream."""
    lines = [line.partition("data: ")[2] for line in response.text.splitlines()]
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    message: dict[str, Any] = json.loads([line for line in lines if line][-1] if is_stream else response.text)
    return message


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - another process makes it so
            await anyio.sleep(0.01)


@asynccontextmanager
async def connected(command: Command) -> AsyncGenerator[Client]:
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        client = Client(http, command.url)
        assert (await client.initialize()).status_code == 200
        yield client
