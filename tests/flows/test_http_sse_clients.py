"""Clients of the old transport as people use them: the SDK's and FastMCP's, on all replicas in turn."""

from typing import Any, cast

import anyio
import fastmcp
import pytest
from fastmcp.client.transports import SSETransport
from mcp import ClientSession
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult, TextContent

from tests.flows.apps import Framework
from tests.flows.conftest import CLIENTS, Start

pytestmark = [
    pytest.mark.filterwarnings("ignore:Async generator 'httpx2:ResourceWarning"),
]

on_all = pytest.mark.parametrize("setup", CLIENTS, ids=str, indirect=True)


async def agree(context: Any, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "ada"})


def text_of(result: Any) -> str:
    assert isinstance(result, CallToolResult)
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@on_all
async def test_the_sdks_client_is_served_by_all_replicas(start: Start, framework: Framework) -> None:
    async with start(framework, app={"transport": "sse"}) as fleet:

        def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
            return fleet.client(headers=headers)

        steps: list[float] = []

        async def step(progress: float, total: float | None, message: str | None) -> None:
            steps.append(progress)

        async with (
            sse_client(fleet.url + "/sse", httpx_client_factory=client) as streams,
            ClientSession(streams[0], streams[1], elicitation_callback=agree) as session,
        ):
            with anyio.fail_after(20):
                await session.initialize()
                said = [
                    text_of(await session.call_tool("do", {"action": "elicit", "text": "?"}))
                    for _ in range(3)
                ]
                await session.call_tool("do", {"action": "count", "text": "3"}, progress_callback=step)
        assert {answer.partition(":")[2] for answer in said} == {"accept:ada"}
        assert steps == [1, 2, 3]
        assert len({served.replica for served in fleet.log if served.method == "POST"}) == 3


@on_all
async def test_the_sdks_newer_client_falls_back_to_the_handshake(start: Start) -> None:
    async with start(app={"transport": "sse"}) as fleet:

        def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
            return fleet.client(headers=headers)

        with anyio.fail_after(20):
            async with Client(sse_client(fleet.url + "/sse", httpx_client_factory=client)) as session:
                result = await session.call_tool("do", {"action": "echo", "text": "x"})
                assert text_of(result).endswith(":x")


@pytest.mark.parametrize("setup", [s for s in CLIENTS if s.loop == "asyncio"], ids=str, indirect=True)
async def test_fastmcps_client_is_served_by_all_replicas(start: Start, framework: Framework) -> None:
    async with start(framework, app={"transport": "sse"}) as fleet:

        def client(headers: Any = None, timeout: Any = None, auth: Any = None, **_: Any) -> Any:
            return fleet.client(headers=headers)

        transport = SSETransport(fleet.url + "/sse", httpx_client_factory=client)
        with anyio.fail_after(20):
            async with fastmcp.Client(transport) as session:
                for _ in range(3):
                    result = await session.call_tool("do", {"action": "echo", "text": "x"})
                    assert cast("Any", result.content[0]).text.endswith(":x")
        assert len({served.replica for served in fleet.log if served.method == "POST"}) == 3
