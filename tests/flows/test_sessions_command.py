"""`holdfast sessions` on a store that is being served from."""

import json
import sys
from subprocess import CompletedProcess, run

import anyio
import anyio.to_thread
import pytest

from tests.flows.conftest import WIRE, Setup, Wired
from tests.flows.wire import Wire, until

pytestmark = pytest.mark.parametrize(
    "setup", [s for s in WIRE if s.store in {"sqlite", "valkey"}], indirect=True, ids=str
)


async def holdfast(*arguments: str | None) -> CompletedProcess[str]:
    """Run `holdfast sessions` to its end."""
    command = [sys.executable, "-m", "holdfast.ops.cli", "sessions", *(a or "" for a in arguments)]
    return await anyio.to_thread.run_sync(
        lambda: run(command, capture_output=True, text=True, timeout=30, check=False)
    )


async def test_open_sessions_are_listed(wired: Wired, store: str) -> None:
    async with wired() as wire:
        listed = await holdfast("list", "--store", store)
        assert listed.stdout.splitlines() == [wire.session]
        other = Wire(wire.fleet, wire.client)
        await other.initialize()
        listed = await holdfast("list", "--store", store)
        assert listed.stdout.splitlines() == sorted([str(wire.session), str(other.session)])
        assert (await holdfast("list", "--limit", "1", "--store", store)).stdout.count("\n") == 1


async def test_a_session_is_shown_by_the_beginning_of_its_id(wired: Wired, store: str) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        await standalone.next()
        await wire.request("resources/subscribe", {"uri": "res://a"})
        await wire.do("announce")
        shown = await holdfast("show", f"{str(wire.session)[:6]}…", "--store", store)
        about = json.loads(shown.stdout)
    assert about["session"] == wire.session
    assert about["client"] == {"name": "wire", "version": "1"}
    assert about["protocol_version"] == "2025-11-25"
    assert about["subscriptions"] == ["res://a"]
    assert about["events"]["kept"] == 1
    assert about["standalone_stream_read_by"]


async def test_the_messages_of_a_session_are_printed(wired: Wired, store: str) -> None:
    async with wired() as wire:
        async with wire.calling("count", "5") as stream:
            await stream.rest()
        printed = (await holdfast("tail", wire.session, "--lines", "3", "--store", store)).stdout.splitlines()
    messages = [json.loads(line.split(" ", 2)[2]) for line in printed]
    assert [message.get("params", {}).get("progress") for message in messages] == [4, 5, None]
    assert "result" in messages[-1]


async def test_a_follower_prints_what_comes(wired: Wired, store: str) -> None:
    async with wired() as wire:
        command = [sys.executable, "-m", "holdfast.ops.cli", "sessions", "tail", "-f", str(wire.session)]
        async with await anyio.open_process([*command, "--store", store]) as process:
            assert process.stdout is not None
            printed = b""
            await wire.do("announce")
            with anyio.fail_after(30):
                while printed.count(b"list_changed") < 2:
                    printed += await process.stdout.receive()
                    if printed.count(b"list_changed") == 1:
                        await wire.do("announce")
            process.terminate()
            await process.wait()


async def test_a_deleted_session_has_ended_everywhere(wired: Wired, store: str) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        await standalone.next()
        deleted = await holdfast("delete", wire.session, "--store", store)
        assert (deleted.returncode, deleted.stdout) == (0, "deleted\n")
        await standalone.rest()

        async def gone() -> bool:
            return (await wire.delete(on=2)) == 404

        await until(gone)
        again = await holdfast("delete", wire.session, "--store", store)
        assert again.returncode == 1
        assert "no open session begins with" in again.stderr


async def test_a_store_must_be_named(setup: Setup) -> None:
    refused = await holdfast("list")
    assert refused.returncode == 2
    assert "which store? Give --store URL" in refused.stderr


async def test_a_store_that_is_not_there_is_named_without_its_password(setup: Setup) -> None:
    refused = await holdfast("list", "--store", "redis://:geheim@127.0.0.1:1")
    assert refused.returncode == 1
    assert "--store" in refused.stderr
    assert "geheim" not in refused.stderr
