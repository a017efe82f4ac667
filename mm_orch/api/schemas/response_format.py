"""The shape that an answer is asked to have: free text, a JSON object, JSON under a schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from mm_orch.api.schemas.tools import Description, Name
from mm_orch.core.errors import InvalidValueError
from mm_orch.core.guide import JsonObjectShape, JsonSchemaShape


class PlainFormat(BaseModel):
    """Free text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]


class JsonObjectFormat(BaseModel):
    """Any JSON object."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_object"]


class NamedSchema(BaseModel):
    """A JSON schema; without one, any JSON object will do."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    description: Description | None = Field(None, description="Accepted, not used.")
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(
        None, description="Accepted, not used: answers are always kept to the schema."
    )


class JsonSchemaFormat(BaseModel):
    """JSON that is valid under a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_schema"]
    json_schema: NamedSchema


def drop_discriminator(schema: dict[str, Any]) -> None:
    """Take the discriminator out of a union's description."""
    # The branches' own words say it already, and tools take several of a branch amiss.
    schema.pop("discriminator", None)


ResponseFormat = Annotated[
    PlainFormat | JsonObjectFormat | JsonSchemaFormat,
    Field(discriminator="type", json_schema_extra=drop_discriminator),
]


def make_shape(
    kind: str, schema: dict[str, Any] | None, param: str
) -> JsonSchemaShape | JsonObjectShape | None:
    """Return the shape in our own words; None for free text.

    Args:
        kind: text, json_object or json_schema.
        schema: of the answer, where there is one.
        param: where the schema stands in the request.

    Raises:
        InvalidValueError: it is nested too deeply to be written.
    """
    if kind == "text":
        return None
    if schema is None:
        return JsonObjectShape()
    try:
        return JsonSchemaShape(msgspec.json.encode(schema).decode())
    except RecursionError as error:
        raise InvalidValueError(f"{param} is nested too deeply.", param=param) from error
