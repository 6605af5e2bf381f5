"""A server with everything in it: one small handler for each thing an MCP server can do.

Serve it with `holdfast serve examples.everything:mcp`. It is written for the SDK alone and knows nothing of
Holdfast. The names and the answers are those that the official conformance suite calls for, so that
`make conformance` can hold every one of them against the specification.
"""

import base64
import json
from typing import Annotated

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, Message, RequestStateSecurity, UserMessage
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CompletionArgument,
    CompletionContext,
    CreateMessageResult,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from examples import _shared_bus
from examples._material import (
    PIXEL_PNG,
    SCHEMA_2020_12,
    SILENCE_WAV,
    STATE_KEY,
    Choices,
    Profile,
    Reply,
    answer,
    confirmation,
    embedded,
    form,
    sample,
    text,
    value,
)


def json_schema_2020_12_tool() -> str:
    """A tool whose schema says more than a Python signature can."""
    return "The schema is the answer."


schema_tool = Tool.from_function(json_schema_2020_12_tool).model_copy(update={"parameters": SCHEMA_2020_12})

bus = _shared_bus.from_environment()

mcp = MCPServer(
    "everything",
    version="1.0.0",
    tools=[schema_tool],
    instructions="Every tool does one thing that a client may want to see done.",
    request_state_security=RequestStateSecurity(keys=[STATE_KEY]),
    subscriptions=bus,
    lifespan=_shared_bus.lifespan(bus),
)


# What a tool can answer with


@mcp.tool()
def test_simple_text() -> str:
    """Answer with plain text."""
    return "This is a simple text response for testing."


@mcp.tool()
def test_image_content() -> list[ImageContent]:
    """Answer with a picture."""
    return [ImageContent(data=PIXEL_PNG, mime_type="image/png")]


@mcp.tool()
def test_audio_content() -> list[AudioContent]:
    """Answer with a sound."""
    return [AudioContent(data=SILENCE_WAV, mime_type="audio/wav")]


@mcp.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """Answer with a resource inside the result."""
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


@mcp.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answer with three kinds of content at once."""
    return [
        TextContent(text="Multiple content types test:"),
        ImageContent(data=PIXEL_PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ]


@mcp.tool()
def test_error_handling() -> str:
    """Fail; the client gets a result with `isError`, not a broken connection."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@mcp.tool()
def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "nowhere",
) -> str:
    """Take an argument that the client also sends as the header `Mcp-Param-Region`, for balancers to read."""
    return f"region: {region}"


# What a tool can say while it works


@mcp.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Log three lines on the way."""
    await _log(ctx, "Tool execution started")
    await anyio.sleep(0.05)
    await _log(ctx, "Tool processing data")
    await anyio.sleep(0.05)
    await _log(ctx, "Tool execution completed")
    return "Three lines logged."


@mcp.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, total=100, message=f"Completed step {done} of 100")
        await anyio.sleep(0.05)
    return "Progress reported."


@mcp.tool()
async def test_reconnection(ctx: Context) -> str:
    """Close the stream in the middle of the call: the client comes back and gets what it missed."""
    await _log(ctx, "Before the stream is closed")
    await ctx.close_sse_stream()
    await anyio.sleep(0.2)
    await _log(ctx, "While the client was away")
    return "Answered after the client was disconnected."


async def _log(ctx: Context, line: str) -> None:
    await ctx.info(line)  # pyright: ignore[reportDeprecated] - gone in 2026-07-28, at home in all before it


# What a tool can ask, up to protocol 2025-11-25: it asks, and waits inside the call


@mcp.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Ask the client's model."""
    reply = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
        messages=[SamplingMessage(role="user", content=TextContent(text=prompt))],
        max_tokens=100,
        related_request_id=ctx.request_id,  # so that the question travels on this call's own stream
    )
    return f"LLM response: {text(reply)}"


@mcp.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Ask the user one question."""
    return await _fill_in(ctx, message, Reply)


@mcp.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Ask the user to correct a form that is filled in already."""
    return await _fill_in(ctx, "Is this you?", Profile)


@mcp.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Ask the user to choose, in each way that there is."""
    return await _fill_in(ctx, "Please choose.", Choices)


async def _fill_in(ctx: Context, message: str, questions: type[BaseModel]) -> str:
    outcome = await ctx.elicit(message, questions)
    content = outcome.data.model_dump_json() if outcome.action == "accept" else "{}"
    return f"Elicitation completed: action={outcome.action}, content={content}"


# What a tool can ask, from protocol 2026-07-28: it answers "first tell me this", and is called again


@mcp.tool()
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Ask the user."""
    if found := answer(ctx.input_responses, "user_name", ElicitResult):
        return f"Hello, {value(found, 'name')}!"
    return InputRequiredResult(input_requests={"user_name": form("What is your name?", name="string")})


@mcp.tool()
async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Ask the client's model."""
    if found := answer(ctx.input_responses, "capital_question", CreateMessageResult):
        return text(found)
    return InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?")})


@mcp.tool()
async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Ask which folders the client has open."""
    if found := answer(ctx.input_responses, "client_roots", ListRootsResult):
        return f"Roots: {', '.join(str(root.uri) for root in found.roots)}"
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


@mcp.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Ask the user, the model and the client at once."""
    name = answer(ctx.input_responses, "user_name", ElicitResult)
    greeting = answer(ctx.input_responses, "greeting", CreateMessageResult)
    roots = answer(ctx.input_responses, "client_roots", ListRootsResult)
    if name and greeting and roots:
        return f"{text(greeting)} ({value(name, 'name')}, {len(roots.roots)} roots)"
    return InputRequiredResult(
        input_requests={
            "user_name": form("What is your name?", name="string"),
            "greeting": sample("Generate a greeting"),
            "client_roots": ListRootsRequest(),
        },
        request_state="asked",
    )


@mcp.tool()
async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Remember something between two rounds, in the client's keeping."""
    if ctx.request_state == "confirming" and answer(ctx.input_responses, "confirm", ElicitResult):
        return "state-ok"
    return InputRequiredResult(input_requests={"confirm": confirmation()}, request_state="confirming")


@mcp.tool()
async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """Never see a state that the client changed: it is sealed, and the SDK refuses it before this runs."""
    if ctx.request_state is not None:
        return "state-ok"
    return InputRequiredResult(input_requests={"confirm": confirmation()}, request_state="sealed")


@mcp.tool()
async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Ask twice, and carry the first answer over to the third round."""
    name: str | None = json.loads(ctx.request_state or "{}").get("name")
    if name and (found := answer(ctx.input_responses, "step2", ElicitResult)):
        return f"{name} likes {value(found, 'color')}."
    if found := answer(ctx.input_responses, "step1", ElicitResult):
        return InputRequiredResult(
            input_requests={"step2": form("Step 2: What is your favorite color?", color="string")},
            request_state=json.dumps({"name": value(found, "name")}),
        )
    return InputRequiredResult(
        input_requests={"step1": form("Step 1: What is your name?", name="string")}, request_state="{}"
    )


@mcp.tool()
async def test_input_required_result_capabilities(ctx: Context) -> InputRequiredResult:
    """Ask only for what this client can do."""
    can = ctx.client_capabilities
    requests: dict[str, InputRequest] = {}
    if can and can.elicitation:
        requests["user_name"] = form("What is your name?", name="string")
    if can and can.sampling:
        requests["greeting"] = sample("Generate a greeting")
    return InputRequiredResult(input_requests=requests, request_state="asked")


@mcp.tool()
async def test_missing_capability(ctx: Context) -> str:
    """Refuse a client that cannot sample, with the error that says what is missing."""
    can = ctx.client_capabilities
    if can and can.sampling:
        return "This client can sample."
    raise MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        "This tool needs a client that can sample",
        data={"requiredCapabilities": {"sampling": {}}},
    )


# Lists that change while clients look at them


@mcp.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """Add a tool and take it away again, and tell whoever listens."""
    mcp.add_tool(test_simple_text, name="test_passing_tool")
    mcp.remove_tool("test_passing_tool")
    await ctx.notify_tools_changed()
    return "The list of tools changed."


@mcp.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Add a prompt and take it away again, and tell whoever listens."""
    mcp.add_prompt(Prompt.from_function(test_simple_prompt, name="test_passing_prompt"))
    mcp.remove_prompt("test_passing_prompt")
    await ctx.notify_prompts_changed()
    return "The list of prompts changed."


# Resources


@mcp.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text that never changes."""
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """A picture."""
    return base64.b64decode(PIXEL_PNG)


@mcp.resource("test://template/{id}/data", mime_type="application/json")
def from_template(id: str) -> str:  # noqa: A002 - named as in the URI
    """One resource for each id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@mcp.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    """A text that clients subscribe to."""
    return "Nothing has happened yet."


# Prompts


@mcp.prompt()
def test_simple_prompt() -> str:
    """A prompt that takes nothing."""
    return "This is a simple prompt for testing."


@mcp.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt that takes two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite's name
    """A prompt with a resource inside."""
    return [
        UserMessage(embedded(resourceUri, "Embedded resource content for testing.")),
        UserMessage("Please process the embedded resource above."),
    ]


@mcp.prompt()
def test_prompt_with_image() -> list[Message]:
    """A prompt with a picture inside."""
    return [
        UserMessage(ImageContent(data=PIXEL_PNG, mime_type="image/png")),
        UserMessage("Please analyze the image above."),
    ]


@mcp.prompt()
async def test_input_required_result_prompt(ctx: Context) -> list[Message] | InputRequiredResult:
    """A prompt that asks the user before it answers."""
    if found := answer(ctx.input_responses, "user_context", ElicitResult):
        return [UserMessage(f"Keep this in mind: {value(found, 'context')}")]
    question = form("What context should the prompt use?", context="string")
    return InputRequiredResult(input_requests={"user_context": question})


# The rest


@mcp.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # as the SDK leaves it
async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion:
    """Suggest the words that begin as the user began."""
    words = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
    return Completion(values=words, total=len(words), has_more=False)


async def set_level(_: ServerRequestContext, params: SetLevelRequestParams) -> EmptyResult:
    """Let the client choose how much it wants to hear."""
    return EmptyResult()


async def subscribe(_: ServerRequestContext, params: SubscribeRequestParams) -> EmptyResult:
    """Accept a subscription. Who subscribed to what is remembered outside, where every replica can see it."""
    return EmptyResult()


async def unsubscribe(_: ServerRequestContext, params: UnsubscribeRequestParams) -> EmptyResult:
    """Accept the end of a subscription."""
    return EmptyResult()


# MCPServer has no decorator for these three methods, but the low-level server under it takes them. It can be
# had by public names once an app was built; the app itself is not needed.
mcp.streamable_http_app()
lowlevel = mcp.session_manager.app
lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
