"""`make demo`: one MCP session on three replicas, behind a balancer that sends each request to the next one.

Starts three processes of `holdfast serve examples.demo_server:mcp` on the default store, a file, and a
round-robin proxy in front; then drives the official Python client through the proxy, kills replicas and
replaces all of them, and says what happened. What is said is checked: the exit status is 0 only if all of it
is true. `KEEP=1` leaves it running afterwards.
"""

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    ElicitRequestParams,
    ElicitResult,
    ResourceListChangedNotification,
    ResourceUpdatedNotification,
    TextContent,
)

from examples.demo_client import LOAD_CLIENTS, Witness, load
from examples.demo_stage import (
    NAMES,
    PATIENCE_SECONDS,
    DemoFailedError,
    Fleet,
    Replica,
    act,
    check,
    detail,
    fleet,
    free_port,
    say,
    until,
)

KEEP_PORT = 8000
BAKING_SECONDS = 0.5
RINGING_SECONDS = 0.4
BELLS, BELLS_BEFORE = 8, 3
TOLD_WITHIN_SECONDS = 15.0


# The play


class Play:
    """One client, and what it lives through."""

    def __init__(self, stage: Fleet) -> None:
        self.stage = stage
        self.witness = Witness(stage.names)
        self.menu_changed = asyncio.Event()
        self.bells: list[int] = []
        self.restarts: list[asyncio.Task[Replica]] = []
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
            check("no two requests in a row went to the same replica", met=not self.stage.proxy.repeats())
            await self.killed_listener()
            await self.killed_worker()
            await self.rolling_restart()
            act("9. The client says goodbye")
        await until(lambda: self.witness.saw("DELETE"), "DELETE is sent")

    async def connect(self) -> None:
        act("1. The official Python client connects")
        info = await self.client.initialize()
        await until(lambda: self.witness.saw("GET"), "the client opens GET")
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
        await until(lambda: self.witness.saw("POST the answer"), "the answer is taken")
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

    async def killed_listener(self) -> None:
        act("6. kill -9 of the replica that streams to the client")
        holder = self.witness.last("GET the stream").replica
        if self.stage.next == holder:
            await self.client.send_ping()
        self.bells.clear()
        ringing = asyncio.create_task(self.call("ring", {"times": BELLS, "seconds_each": RINGING_SECONDS}))
        await until(lambda: len(self.bells) == BELLS_BEFORE, "the client hears the first bells")
        await self.stage.kill(holder)
        say(f"   kill -9 of replica {holder}, which streams these bells", style="31")
        result = await ringing
        await until(lambda: len(self.bells) >= BELLS, "the client hears the last bell")
        ringer = self.witness.last("POST tools/call ring").replica
        resumed = self.witness.last("GET with Last-Event-ID").replica
        check(
            f"replica {ringer} went on; the client came back to replica {resumed} by itself",
            met=resumed != holder != ringer,
        )
        check(
            f"it heard {numbers(self.bells)}: nothing missing, nothing twice",
            met=self.bells == [*range(1, BELLS + 1)],
        )
        check(f"the result: {result!r}", met=result == "the bell rang 8 times")
        self.rows.append(("the stream of a killed replica", f"{holder} was resumed on replica {resumed}"))
        self.restarts.append(asyncio.create_task(self.stage.start(holder)))

    async def killed_worker(self) -> None:
        act("7. kill -9 of the replica that runs a call")
        heard: list[float] = []
        baking = asyncio.create_task(
            self.call("bake", {"loaves": 100, "seconds_each": BAKING_SECONDS}, heard)
        )
        await until(lambda: len(heard) == 2, "the baker reports")  # noqa: PLR2004
        worker = self.witness.last("POST tools/call bake").replica
        killed_at = time.monotonic()
        await self.stage.kill(worker)
        say(f"   kill -9 of replica {worker}, which bakes; its work dies with it", style="31")
        self.restarts.append(asyncio.create_task(self.stage.start(worker)))
        try:
            await baking
        except MCPError as error:
            told = error
        else:
            raise DemoFailedError("a call survived the process that ran it")
        seconds = time.monotonic() - killed_at
        check(
            f"after {seconds:.1f} s another replica says so: {str(told)!r}", met=seconds < TOLD_WITHIN_SECONDS
        )
        check(f"the client heard {numbers(heard)}: nothing twice", met=heard == [*range(1, len(heard) + 1)])
        result = await self.call("bake", {"loaves": 1})
        check(f"in the same session it asks again: {result!r}", met=result == "1 loaves are ready")
        self.rows.append(
            ("the call of a killed replica", f"{worker} ended with an error after {seconds:.1f} s")
        )
        for replica in await asyncio.gather(*self.restarts):
            detail(f"replica {replica.name} was started anew")

    async def rolling_restart(self) -> None:
        act(f"8. All replicas are replaced, one after the other, while {LOAD_CLIENTS} more clients call")
        before = set(self.stage.names)
        async with load(self.stage.url) as others:
            await until(lambda: others.calls >= LOAD_CLIENTS, "the load begins")
            for name in NAMES:
                status = await self.stage.replace(name)
                check(
                    f"replica {name} finished what it did and left (status {status}); a new one serves",
                    met=not status,
                )
            settled = others.calls + LOAD_CLIENTS
            await until(lambda: others.calls >= settled, "the load goes on")
        for failure in others.failures[:5]:
            say(f"   {failure}", style="31")
        failed = len(others.failures)
        check(f"{others.calls} calls of the other clients, {failed} failed", met=failed == 0)
        result = await self.call("bake", {"loaves": 1})
        check(f"and the first session goes on: {result!r}", met=result == "1 loaves are ready")
        served = self.witness.last("POST tools/call bake").address
        check("served by a process that did not exist when it began", met=served not in before)
        self.rows.append(("a rolling restart", f"{others.calls} calls, {failed} failed"))

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
        elif isinstance(message, ResourceUpdatedNotification):
            number = int(str(message.params.uri).rpartition("/")[2])
            detail(f"     the client hears: bell {number}")
            self.bells.append(number)

    def summary(self) -> None:
        """Who did what."""
        act("What happened")
        for what, who in self.rows:
            say(f"   {what:<36} {who}")
        counts = Counter(seen.replica for seen in self.witness.seen)
        shared = ", ".join(f"{name}: {counts[name]}" for name in NAMES)
        say(f"   {f'{len(self.witness.seen)} requests of one session went to':<36} {shared}")
        opened = sum(seen.what == "POST initialize" for seen in self.witness.seen)
        check("the client opened one session, and never another", met=opened == 1)
        refused = [each for each in self.stage.proxy.log if each.status not in {200, 202, None}]
        check("no request was refused", met=not refused)


def numbers(heard: Sequence[float]) -> str:
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
