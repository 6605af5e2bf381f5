"""What the examples show and what they ask for: it is the same on every framework."""

import os
from collections.abc import Mapping
from typing import TypeVar

from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ListRootsResult,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field, JsonValue

AnswerT = TypeVar("AnswerT", ElicitResult, CreateMessageResult, ListRootsResult)

# Every replica must open the `requestState` that another one sealed, so all of them need this key. The
# default is public and fit only for trying the example out: set your own, of 32 bytes or more, wherever it
# matters.
STATE_KEY = os.environ.get("HOLDFAST_EXAMPLE_STATE_KEY", "for development only; every reader knows it")

# One red pixel, and a WAV file with no samples in it.
PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SILENCE_WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="

# The suite looks for each of these words of JSON Schema 2020-12 in the list of tools.
SCHEMA_2020_12: dict[str, JsonValue] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

_UNTITLED: list[JsonValue] = ["option1", "option2", "option3"]
_TITLED: list[JsonValue] = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]


class Reply(BaseModel):
    """A form with one field."""

    response: str = Field(description="Anything you like")


class Profile(BaseModel):
    """A form with a default for each primitive type."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


class Choices(BaseModel):
    """A form with each way to offer a choice; the suite knows the fields by these names."""

    untitledSingle: str = Field(json_schema_extra={"enum": _UNTITLED})  # noqa: N815
    titledSingle: str = Field(json_schema_extra={"oneOf": _TITLED})  # noqa: N815
    untitledMulti: list[str] = Field(  # noqa: N815
        json_schema_extra={"items": {"type": "string", "enum": _UNTITLED}}
    )
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": _TITLED}})  # noqa: N815
    legacyEnum: str = Field(  # noqa: N815
        json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["First", "Second"]}
    )


def embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    """A resource to put into a result."""
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def form(message: str, **fields: str) -> ElicitRequest:
    """A question with one required field for each keyword, which names the field's JSON type."""
    properties = {name: {"type": json_type} for name, json_type in fields.items()}
    schema = {"type": "object", "properties": properties, "required": [*fields]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def confirmation() -> ElicitRequest:
    """A question that takes a yes."""
    return form("Please confirm", ok="boolean")


def sample(prompt: str) -> CreateMessageRequest:
    """A question for the client's model."""
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def answer(answers: Mapping[str, object] | None, key: str, kind: type[AnswerT]) -> AnswerT | None:
    """The client's answer to the question `key`, if it came and fits the question."""
    found = (answers or {}).get(key)
    return found if isinstance(found, kind) else None


def value(filled_in: ElicitResult, name: str) -> str:
    """What the user wrote into a field."""
    return str((filled_in.content or {}).get(name, "nobody"))


def text(reply: CreateMessageResult) -> str:
    """What the model said, if it said it in words."""
    return reply.content.text if reply.content.type == "text" else f"({reply.content.type})"
