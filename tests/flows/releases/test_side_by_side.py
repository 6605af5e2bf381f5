"""The previous release and this one on one store, as during a deploy: what VERSIONING.md promises."""

import subprocess
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import anyio
import httpx2
import pytest

from tests.flows.command import Client, Command, serving
from tests.flows.conftest import Setup

ROOT: Final = Path(__file__).parents[3]

PREVIOUS: Final = {"valkey": "814bc5a"}
"""The commits that stand for the previous release: the oldest formats that this one runs beside."""

SERVER: Final = """
import os
import anyio
import holdfast
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult

mcp = MCPServer("releases")

@mcp.tool()
def where() -> str:
    return os.path.dirname(holdfast.__file__)

async def _ask(ctx: Context, message: str) -> ElicitResult:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    request = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))
    return await ctx.session.send_request(
        request, ElicitResult, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
    )

@mcp.tool()
async def ask(ctx: Context) -> str:
    result = await _ask(ctx, "first")
    return f"{result.action}:{result.content['name']}"

@mcp.tool()
async def hold(ctx: Context, flag: str) -> str:
    await _ask(ctx, "first")
    while not os.path.exists(flag):
        await anyio.sleep(0.02)
    await _ask(ctx, "second")
    return "released"
"""

Release: TypeAlias = Literal["old", "new"]
PAIRS: Final[list[tuple[Release, Release]]] = [("old", "new"), ("new", "old")]


@pytest.fixture(params=["valkey"])
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(request.param, sockets=True)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The code of previous releases, out of the history of this repository."""
    unpacked: dict[str, Path] = {}
    for commit in set(PREVIOUS.values()):
        folder = tmp_path_factory.mktemp(commit)
        archived = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, "src"],  # noqa: S607 - which git is the machine's
            capture_output=True,
            check=False,
        )
        assert archived.returncode == 0, (
            f"this needs the history of the repository: {archived.stderr.decode()}"
        )
        # Not `tarfile`: its filters came with Python 3.11.4, and without one it warns.
        subprocess.run(["tar", "-x", "-C", folder], input=archived.stdout, check=True)  # noqa: S607
        unpacked[commit] = folder / "src"
    return unpacked


class Fleet:
    """Processes of both releases on one store."""

    def __init__(self, folder: Path, store: str, previous: Path) -> None:
        self.folder = folder
        self.store = store
        self.paths: dict[Release, Path] = {"old": previous, "new": ROOT / "src"}
        self.count = 0

    @asynccontextmanager
    async def running(self, release: Release) -> AsyncGenerator[Command]:
        """One more process."""
        self.count += 1
        folder = self.folder / f"{self.count}-{release}"
        folder.mkdir()
        (folder / "served.py").write_text(SERVER)
        arguments = ("served:mcp", "--drain-seconds", "4")
        async with serving(folder, *arguments, store=self.store, source=self.paths[release]) as command:
            yield command


@pytest.fixture
def fleet(tmp_path: Path, store: str, setup: Setup, sources: dict[str, Path]) -> Fleet:
    return Fleet(tmp_path, store, sources[PREVIOUS[setup.store]])


@asynccontextmanager
async def pair(fleet: Fleet, one: Release, other: Release) -> AsyncGenerator[tuple[Client, Command, Command]]:
    """A session that was opened on the first of two processes, which are started in this order."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(fleet.running(one))
        second = await stack.enter_async_context(fleet.running(other))
        client = Client(await stack.enter_async_context(httpx2.AsyncClient(timeout=20)), first.url)
        assert (await client.initialize()).status_code == 200
        yield client, first, second


def to(client: Client, command: Command) -> Client:
    """The same session, elsewhere."""
    client.url = command.url
    return client


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_session_of_one_is_served_and_deleted_by_the_other(
    fleet: Fleet, one: Release, other: Release
) -> None:
    async with pair(fleet, one, other) as (client, first, second):
        pairs: list[tuple[Command, Release]] = [(second, other), (first, one)]
        for command, release in pairs:
            assert Path(await to(client, command).call("where")) == fleet.paths[release] / "holdfast"
        deleted = await client.http.delete(second.url, headers=client.headers)
        assert deleted.status_code == 200
        for command in (first, second):
            assert (await to(client, command).post("ping", {})).status_code == 404


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_questions_and_answers_find_their_way_between_them(
    fleet: Fleet, one: Release, other: Release
) -> None:
    """One asks, the other shows it to the client, takes the answer, and shows what came of it."""
    async with pair(fleet, one, other) as (client, first, second):
        for asking, showing in ((first, second), (second, first)):
            async with to(client, asking).stream("ask") as stream:
                await stream.next()
            async with to(client, showing).stream(after=stream.last_id) as resumed:
                question = await resumed.method("elicitation/create")
                assert await client.answer(question, {"name": "bob"}) == 202
                answer = await resumed.result()
            assert answer["result"]["content"][0]["text"] == "accept:bob"


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_neither_takes_a_request_from_the_other_while_it_lives(
    fleet: Fleet, one: Release, other: Release, tmp_path: Path
) -> None:
    async with pair(fleet, one, other) as (client, first, second):
        for number, (holding, showing) in enumerate(((first, second), (second, first))):
            flag = tmp_path / f"flag-{number}"
            async with to(client, holding).stream("hold", flag=str(flag)) as stream:
                await stream.next()
            async with to(client, showing).stream(after=stream.last_id) as resumed:
                await client.answer(await resumed.method("elicitation/create"), {"name": "a"})
                await anyio.sleep(9)  # who does not see heartbeats of the other kind takes it for dead by now
                flag.touch()
                await client.answer(await resumed.method("elicitation/create"), {"name": "b"})
                answer = await resumed.result()
            assert answer["result"]["content"][0]["text"] == "released"


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_a_session_outlives_the_replacement_of_one_by_the_other(
    fleet: Fleet, one: Release, other: Release
) -> None:
    """A deploy, and one that is taken back. What runs is handed over, its answer comes."""
    async with pair(fleet, one, other) as (client, first, second):
        async with to(client, first).stream("ask") as stream:
            question = await stream.method("elicitation/create")
            first.process.terminate()
            assert await to(client, second).answer(question, {"name": "bob"}) == 202
            answers = [event.message for event in await stream.rest() if event.data]
        if not answers:  # it was handed over
            async with client.stream(after=stream.last_id) as resumed:
                answers = [await resumed.result()]
        assert answers[-1]["result"]["content"][0]["text"] == "accept:bob"
        assert await first.ended() == 0
        assert Path(await client.call("where")) == fleet.paths[other] / "holdfast"
        async with fleet.running(one) as third:
            assert Path(await to(client, third).call("where")) == fleet.paths[one] / "holdfast"
