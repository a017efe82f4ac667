"""Reads a request's body into its schema."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from mm_orch.api.exchange import ClientGoneError
from mm_orch.api.explanation import explain
from mm_orch.core.errors import DeadlineError, InvalidValueError

if TYPE_CHECKING:
    from starlette.requests import Request

B = TypeVar("B", bound=BaseModel)

# Parsing so much takes about a millisecond: more goes to a thread, for the loop's sake.
_INLINE_BYTES = 64 * 1024
_JSON_KINDS = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


async def read_body(request: Request, schema: type[B], *, timeout_s: float) -> B:
    """Return the body as ``schema``.

    Raises:
        InvalidValueError: it is no JSON, or a field is wrong: named, with what is allowed.
        UnsupportedError: a field asks for what is not built.
        DeadlineError: it did not arrive in time.
        PayloadTooLargeError: raised below, by the limit on what is received.
        ClientGoneError: the client left before its end.
    """
    body = await receive_body(request, timeout_s=timeout_s)
    if len(body) > _INLINE_BYTES:
        return await asyncio.to_thread(parse_body, body, schema)
    return parse_body(body, schema)


async def receive_body(request: Request, *, timeout_s: float) -> bytes:
    """Return the body as it comes.

    Raises:
        DeadlineError: it did not arrive in time.
        PayloadTooLargeError: raised below, by the limit on what is received.
        ClientGoneError: the client left before its end.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await request.body()
    except TimeoutError:
        raise DeadlineError(f"The body did not arrive within {timeout_s:g} s.") from None
    except ClientDisconnect:
        raise ClientGoneError("The client left before its request was complete.") from None


def parse_body(body: bytes, schema: type[B]) -> B:
    """Parse JSON into ``schema``; raises as read_body."""
    if not body.strip():
        raise InvalidValueError("The body is empty; it must be a JSON object.")
    try:
        content = msgspec.json.decode(body)
    except RecursionError as error:
        raise InvalidValueError("The body is nested too deeply.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"The body is not JSON: {error}.") from error
    if not isinstance(content, dict):
        kind = _JSON_KINDS.get(type(content), "a number")
        raise InvalidValueError(f"The body must be a JSON object, not {kind}.")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise explain(error, content, schema) from error
