"""What all streams of events have in common: how they begin, go on, and break off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mm_orch.api.errors import envelope, fault_envelope
from mm_orch.api.exchange import ClientGoneError
from mm_orch.core.errors import MuAIError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Message, Scope

logger = logging.getLogger(__name__)


def start_of(own_headers: dict[str, str]) -> Message:
    """Return the head of a stream, which says that it is one."""
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        # Proxies such as nginx would collect chunks otherwise.
        "x-accel-buffering": "no",
        **own_headers,
    }
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def part_of(body: bytes) -> Message:
    """Return a piece of a stream that goes on."""
    return {"type": "http.response.body", "body": body, "more_body": True}


async def find_failure(
    work: Awaitable[None], scope: Scope, request_id: str
) -> dict[str, Any] | None:
    """Send what is left of a stream; return the envelope of what broke it off, or None.

    The status has been sent, so a failure is told where the client looks now.

    Raises:
        ClientGoneError: nobody is there to be told.
    """
    try:
        await work
    except ClientGoneError:
        raise
    except MuAIError as error:
        _note_failure(scope, error)
        return envelope(error)
    except Exception as error:  # boundary: one that just stopped would look like a whole one
        _note_failure(scope, error)
        logger.exception("request %s met a fault within its stream", request_id)
        return fault_envelope(request_id)
    return None


async def receive_nothing() -> Message:
    """Stand for the client of a response that is sent whole."""
    raise AssertionError("a plain response reads nothing from its client")


def _note_failure(scope: Scope, error: Exception) -> None:
    # For what is told of the exchange: its status says success.
    scope["state"]["stream_error_type"] = type(error).__name__
