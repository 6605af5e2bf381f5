"""The server of `make demo`: an ordinary one. Nothing in it knows of Holdfast, of replicas or of a store.

Serve it with `holdfast serve examples.demo_server:mcp`.
"""

import anyio
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel, Field

mcp = MCPServer(
    "bakery",
    version="1.0.0",
    instructions="A bakery: bake bread, order a cake, change the menu, ring the bell.",
)


class Inscription(BaseModel):
    """What the customer is asked."""

    text: str = Field(description="What to write on the cake")


@mcp.tool()
async def bake(loaves: int, ctx: Context, seconds_each: float = 0.3) -> str:
    """Bake some loaves, and report after each."""
    for loaf in range(1, loaves + 1):
        await anyio.sleep(seconds_each)
        await ctx.report_progress(loaf, loaves, f"loaf {loaf} of {loaves}")
    return f"{loaves} loaves are ready"


@mcp.tool()
async def order_cake(ctx: Context) -> str:
    """Ask the customer what to write on the cake, and wait for the answer."""
    answer = await ctx.elicit("What shall we write on the cake?", Inscription)
    return f"a cake that says: {answer.data.text}" if answer.action == "accept" else "no cake, then"


@mcp.tool()
async def change_menu(ctx: Context) -> str:
    """Tell the client that there is something new on the menu."""
    await ctx.session.send_resource_list_changed()
    return "the menu has changed"


@mcp.tool()
async def ring(times: int, ctx: Context, seconds_each: float = 0.3) -> str:
    """Ring the bell; everybody in the shop hears it, not only who asked."""
    for time in range(1, times + 1):
        await anyio.sleep(seconds_each)
        await ctx.session.send_resource_updated(f"bakery://bell/{time}")
    return f"the bell rang {times} times"


@mcp.resource("bakery://menu", mime_type="text/plain")
def menu() -> str:
    """What there is today."""
    return "bread, cake"
