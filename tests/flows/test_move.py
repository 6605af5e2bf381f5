"""From SQLite to Redis with clients connected, by the very commands of docs/how-to/move-to-redis.md."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import pytest

from tests.flows.command import PATIENCE_SECONDS, Client, Command, connected, serving
from tests.flows.conftest import Setup

HOW_TO: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "move-to-redis.md").read_text("utf-8")
SERVER: Final = """
import os
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

mcp = MCPServer("mover")

@mcp.tool()
def who() -> str:
    return str(os.getpid())

@mcp.tool()
async def tell(number: int, ctx: Context) -> str:
    await ctx.session.send_resource_updated(f"number://{number}")
    return f"told {number}"
"""


@pytest.fixture
def setup() -> Setup:
    """The destination."""
    return Setup("valkey", sockets=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands are run."""
    (tmp_path / "server.py").write_text(SERVER)
    return tmp_path


@dataclass
class Reader:
    """A client that reads its standalone stream now and then, and remembers where it stopped."""

    client: Client
    last_id: str | None = None

    async def hears(self, *numbers: int) -> None:
        """Resume, and hear exactly these."""
        heard: list[int] = []
        async with self.client.stream(after=self.last_id) as stream:
            while len(heard) < len(numbers):
                message = await stream.method("notifications/resources/updated")
                heard.append(int(message["params"]["uri"].rpartition("/")[2]))
            self.last_id = stream.last_id
        assert heard == list(numbers)


def commands(source: str, target: str) -> list[list[str]]:
    """The commands that are shown, with places filled in."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```", HOW_TO, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [
        shlex.split(line.replace("sqlite:///PATH", source).replace("redis://HOST:6379", target))
        for line in lines
    ]


def store_of(command: Command) -> str:
    (line,) = [line for line in command.said if line.startswith("store")]
    return line.split()[1]


async def run(folder: Path, words: list[str]) -> str:
    """Run a command of ours that has to succeed; what it said."""
    assert words[0] == "holdfast"
    with anyio.fail_after(PATIENCE_SECONDS):
        done = await anyio.run_process(
            [sys.executable, "-m", "holdfast.ops.cli", *words[1:]],
            cwd=folder,
            env={**os.environ},
            check=False,
        )
    said = done.stdout.decode()
    assert done.returncode == 0, said + done.stderr.decode()
    assert done.stderr == b"", "a bar is for terminals only"
    return said


@pytest.mark.timeout(180)  # seven processes, one after the other, on whatever the machine has left
async def test_clients_go_on_where_they_were(folder: Path, store: str) -> None:
    async with serving(folder, "server:mcp") as old, connected(old) as client:
        export, import_, export_again, import_again, serve = commands(store_of(old), store)
        busy = Reader(client)
        await client.call("tell", number=1)
        await client.call("tell", number=2)
        await busy.hears(1, 2)
        await client.call("tell", number=3)
        async with connected(old) as quiet_client, connected(old) as leaving:
            quiet = Reader(quiet_client)
            await quiet_client.call("tell", number=10)
            await quiet.hears(10)
            await quiet_client.call("tell", number=11)

            # While it serves.
            assert "3 sessions written" in await run(folder, export)
            assert "3 sessions restored" in await run(folder, import_)
            await client.call("tell", number=4)
            await client.http.delete(old.url, headers=leaving.headers)
            async with connected(old) as new_client:
                await new_client.call("tell", number=20)

                # The pause.
                old.process.terminate()
                assert await old.ended() == 0
                said = await run(folder, export_again)
                assert "2 sessions written, 1 ended" in said
                said = await run(folder, import_again)
                assert "1 sessions restored, 1 updated, 1 ended" in said
                assert "verified: all is there" in said
                assert "0 sessions written, 0 ended" in await run(folder, export_again)

                async with serving(folder, *serve[2:]) as new:
                    for each in (client, quiet_client, leaving, new_client):
                        each.url = new.url
                    assert store_of(new) == store
                    assert await client.call("who") == str(new.process.pid)
                    await client.call("tell", number=5)
                    await busy.hears(3, 4, 5)
                    await quiet.hears(11)
                    await Reader(new_client).hears(20)
                    response = await leaving.post("tools/list", {})
                    assert response.status_code == 404


async def test_what_was_used_at_the_destination_already_is_said(folder: Path, store: str) -> None:
    async with serving(folder, "server:mcp") as old, connected(old) as client:
        export, import_, *_ = commands(store_of(old), store)
        await run(folder, export)
        await run(folder, import_)
        async with serving(folder, "server:mcp", store=store) as new:
            there = Client(client.http, new.url)
            there.headers = client.headers
            await there.call("tell", number=1)
            await client.call("tell", number=2)
            await run(folder, export)
            done = await anyio.run_process(
                [sys.executable, "-m", "holdfast.ops.cli", *import_[1:]], cwd=folder, check=False
            )
            assert done.returncode == 1
            assert "was used or deleted in this store: it is left as it is" in done.stdout.decode()
            assert client.headers["mcp-session-id"] not in done.stdout.decode()
            await Reader(there).hears(1)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["export", "f"], 2, "--store: which one?"),
        (["export", "f", "--store", "memory://"], 2, "another process's memory"),
        (["export", "f", "--store", "sqlite:///nowhere/f.db"], 2, "there is no file /nowhere/f.db"),
        (["export", "f", "--store", "mysql://x"], 2, "no store has the scheme 'mysql'"),
        (["import", "f", "--store", "redis://x"], 2, "f: No such file or directory"),
        (["import", "server.py", "--store", "redis://x"], 2, "server.py is no file of `holdfast export`"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    folder: Path, arguments: list[str], status: int, said: str
) -> None:
    done = await anyio.run_process(
        [sys.executable, "-m", "holdfast.ops.cli", *arguments], cwd=folder, check=False
    )
    assert (done.returncode, done.stdout) == (status, b"")
    assert said in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


async def test_a_store_that_cannot_be_reached_is_said_and_leaves_no_file(folder: Path) -> None:
    store = "redis://user:secret@127.0.0.1:1/0?connect_timeout=1"
    done = await anyio.run_process(
        [sys.executable, "-m", "holdfast.ops.cli", "export", "f"],
        cwd=folder,
        env={**os.environ, "HOLDFAST_STORE": store},
        check=False,
    )
    assert done.returncode == 1
    said = done.stderr.decode()
    assert said.startswith("holdfast export: HOLDFAST_STORE: cannot connect to redis://127.0.0.1:1/0")
    assert "secret" not in said
    assert len(said.splitlines()) == 1
    assert not (folder / "f").exists()
