"""Who calls, and what its requests may go before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import ANONYMOUS

if TYPE_CHECKING:
    from starlette.requests import Request


def caller_of(request: Request) -> str:
    """Return the name of the key that the request came with."""
    return getattr(request.state, "key_name", ANONYMOUS)


def owner_of(request: Request) -> str:
    """Return whose stored things the request may use; empty for callers that need no key."""
    return getattr(request.state, "owner", "")


def allowed_priority(request: Request, priority: int | None) -> int:
    """Return the priority that a request asks for; 0 where it asks for none.

    Raises:
        InvalidValueError: it is above what the key may ask for.
    """
    highest: int | None = getattr(request.state, "priority_max", None)
    if priority is None:
        # A key that may not even ask for 0 gets what it may.
        return 0 if highest is None else min(0, highest)
    if highest is not None and priority > highest:
        raise InvalidValueError(
            f"priority is {priority}; the key {caller_of(request)} may ask for up to {highest}"
            " (priority_max in api.api_keys).",
            param="priority",
        )
    return priority
