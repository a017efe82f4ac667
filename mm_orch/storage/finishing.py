"""Waits for a write that has begun, whatever becomes of whoever asked for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from mm_orch.core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

# A write waits for another process's for up to 5 s, and then takes milliseconds.
_MAX_WRITE_S = 6.0


async def finish(write: Coroutine[Any, Any, T], what: str, *, remedy: str) -> T:
    """Return what has come of a write, even if its task is to end meanwhile.

    Whoever writes does not stop for that, and the caller of what is stored after it was said to be
    lost would store it twice.

    Args:
        write: the call of the store.
        what: is written.
        remedy: what to do where nobody can say what has come of it.

    Raises:
        StorageError: the task was to end, and the write takes too long.
    """
    writing = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,), timeout=_MAX_WRITE_S)
        if not writing.done():
            writing.cancel()
            raise StorageError(
                f"The {what} was not stored within {_MAX_WRITE_S:g} s; it may be yet.",
                remedy=remedy,
            ) from None
        return writing.result()
