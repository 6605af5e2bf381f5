"""`holdfast serve` without any store: sessions in a file, for all processes of the machine."""

from __future__ import annotations

import shutil
import signal
import stat
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

from tests.flows.command import (
    PATIENCE_SECONDS,
    Client,
    Command,
    connected,
    refused,
    serving,
    until,
)
from tests.flows.conftest import Setup

ROOT: Final = Path(__file__).parents[2]
EVERYTHING: Final = "examples.everything:mcp"
SERVER: Final = """
import os
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

mcp = MCPServer("talker")

@mcp.tool()
def who() -> str:
    return str(os.getpid())

@mcp.tool()
async def tell(ctx: Context) -> str:
    await ctx.session.send_resource_list_changed()
    return "told"
"""


@pytest.fixture
def setup() -> Setup:
    """These tests start their own processes, on a file."""
    return Setup("sqlite", sockets=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command is run."""
    (tmp_path / "talker.py").write_text(SERVER)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@asynccontextmanager
async def continued(client: Client, folder: Path, target: str) -> AsyncGenerator[Client]:
    """The same session of the same client, with the server started anew."""
    async with serving(folder, target) as command:
        again = Client(client.http, command.url)
        again.headers = client.headers
        yield again


def file_of(command: Command) -> Path:
    (line,) = [line for line in command.said if line.startswith("store")]
    return Path(line.split()[1].removeprefix("sqlite://"))


def offset(event_id: str | None) -> int:
    """The place in the log. What stands before it may change when all processes of a file have ended."""
    assert event_id is not None
    return int(event_id.rpartition(".")[2])


async def end(command: Command, number: signal.Signals) -> None:
    command.process.send_signal(number)
    with anyio.fail_after(PATIENCE_SECONDS):
        await command.process.wait()


async def test_it_says_where_the_file_is_and_what_else_there_is(folder: Path) -> None:
    async with serving(folder, "talker:mcp") as command:
        file = file_of(command)
        assert file.parent == folder / "state" / "holdfast"
        assert file.name.startswith("talker-mcp-")
        assert "--store redis://HOST" in command.output
        assert "memory://" in command.output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
async def test_a_session_and_its_stream_go_on_after_a_restart(folder: Path, number: signal.Signals) -> None:
    async with serving(folder, "talker:mcp") as command, connected(command) as client:
        async with client.stream() as stream:
            await client.call("tell")
            await stream.method("notifications/resources/list_changed")
            first = stream.last_id
            await client.call("tell")
            await stream.method("notifications/resources/list_changed")
            seen = stream.last_id
        await client.call("tell")  # nobody listens
        await end(command, number)
        async with continued(client, folder, "talker:mcp") as again:
            assert await again.call("who") != str(command.process.pid)
            async with again.stream(after=seen) as stream:
                await stream.method("notifications/resources/list_changed")
                missed = stream.last_id
                await again.call("tell")
                await stream.method("notifications/resources/list_changed")
                last = stream.last_id
            async with again.stream(after=first) as stream:
                replayed: list[int] = []
                while not replayed or replayed[-1] != offset(last):
                    await stream.method("notifications/resources/list_changed")
                    replayed.append(offset(stream.last_id))
            assert replayed == [offset(seen), offset(missed), offset(last)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
async def test_the_sdks_client_goes_on_after_a_restart_as_if_nothing_had_been(
    folder: Path, number: signal.Signals
) -> None:
    """It keeps its session id, and it would not initialize again by itself."""
    async with serving(folder, "talker:mcp") as command, AsyncExitStack() as stack:
        read, write = await stack.enter_async_context(streamable_http_client(command.url))
        session = await stack.enter_async_context(ClientSession(read, write))
        with anyio.fail_after(PATIENCE_SECONDS):
            await session.initialize()
            assert await asked(session) == str(command.process.pid)
        await end(command, number)
        port = command.url.split(":")[2].split("/")[0]
        async with serving(folder, "talker:mcp", "--port", port) as again:
            with anyio.fail_after(PATIENCE_SECONDS):
                assert await asked(session) == str(again.process.pid)
                assert [tool.name for tool in (await session.list_tools()).tools] == ["who", "tell"]
            await stack.aclose()


async def asked(session: ClientSession) -> str:
    """Which process serves."""
    (content,) = (await session.call_tool("who")).content
    assert isinstance(content, TextContent)
    return content.text


async def test_a_question_is_answered_to_another_process_while_the_one_that_asked_ends(folder: Path) -> None:
    """Two processes that were told of no store share one file, as long as they serve the same thing."""
    async with serving(folder, EVERYTHING) as asking, serving(folder, EVERYTHING) as other:
        assert file_of(asking) == file_of(other)
        async with connected(asking) as client:
            elsewhere = Client(client.http, other.url)
            elsewhere.headers = client.headers
            async with client.stream("test_elicitation", message="Well?") as stream:
                question = await stream.method("elicitation/create")
                asking.process.terminate()
                assert await elsewhere.answer(question, {"response": "well"}) == 202
                rest = await stream.rest()
            answers = [event.message for event in rest if event.data]
            if not answers:  # it was sent away: what became of it is told elsewhere
                async with elsewhere.stream(after=stream.last_id) as stream:
                    answers = [await stream.result()]
            assert "action=accept" in answers[-1]["result"]["content"][0]["text"]
            assert await asking.ended() == 0


async def test_a_question_whose_asker_was_killed_is_withdrawn_and_its_call_ends(folder: Path) -> None:
    async with serving(folder, EVERYTHING) as command, connected(command) as client:
        async with client.stream("test_elicitation", message="Well?") as stream:
            question = await stream.method("elicitation/create")
            await end(command, signal.SIGKILL)
        async with continued(client, folder, EVERYTHING) as again:
            async with again.stream(after=stream.last_id) as resumed:
                withdrawn = await resumed.method("notifications/cancelled")
                answer = await resumed.result()
            assert withdrawn["params"]["requestId"] == question["id"]
            assert answer["id"] == "streamed"
            assert answer["error"]["data"] == {"reason": "replica-died", "retryable": True}
            assert await again.answer(question, {}) == 202  # too late, and no harm
            assert (await again.call("test_simple_text")).startswith("This is a simple text")


async def test_workers_share_the_file(folder: Path) -> None:
    async with (
        serving(folder, "talker:mcp", "--workers", "3") as command,
        connected(command) as client,
    ):
        served: set[str] = set()
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(served) < 3:
                async with connected(command) as other:  # another connection may meet another worker
                    other.headers = client.headers
                    served.add(await other.call("who"))


async def test_a_folder_that_cannot_be_written_is_said_with_a_way_out(folder: Path) -> None:
    (folder / "state").write_text("in the way")
    status, said = await refused(folder, "talker:mcp", "--port", "0")
    assert status != 0
    assert "the default store: " in said
    assert "--store redis://HOST, or memory://" in said
    assert "Traceback" not in said


async def test_what_ends_with_the_process_says_so(folder: Path) -> None:
    async with serving(folder, "talker:mcp", store="memory://") as command, connected(command) as client:
        assert "sessions end with this process" in command.output
        await end(command, signal.SIGKILL)
        async with serving(folder, "talker:mcp", store="memory://") as anew:
            client.url = anew.url
            response = await client.post("tools/list", {})
            assert response.status_code == 404
    await until(lambda: not (folder / "state").exists())
