"""Waits for several things that one step does at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

T = TypeVar("T")


async def side_by_side(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return what all of them give, in their order; when one fails, the others are ended.

    A TaskGroup up to Python 3.12 leaves the task that waited for it marked as cancelled when one of
    its tasks has failed (python/cpython#116720), and the runner of steps would take the step for
    one that was told to stop.

    Raises:
        Exception: the first that one of them raised, itself.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
