"""Follows a worker until it ends, and ends one that has work and makes no progress."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineCrashedError

if TYPE_CHECKING:
    from mm_orch.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class Watched:
    """How a worker ended, for people, and what that is called."""

    how: str
    error_class: type[EngineCrashedError] = EngineCrashedError


async def watch(worker: Worker, *, timeout_s: float) -> Watched:
    """Route the worker's messages until it ends; kill it when it is stuck for so long.

    Raises:
        msgspec.DecodeError: the worker said something that is no message; it still runs.
    """
    watching = asyncio.create_task(worker.watch())
    stalling = asyncio.create_task(_wait_for_stall(worker, timeout_s))
    try:
        await asyncio.wait({watching, stalling}, return_when=asyncio.FIRST_COMPLETED)
        if not watching.done():
            worker.kill(f"it had work and made no step for {timeout_s:g} s, so it was killed")
        return Watched(await watching, worker.end_class)
    finally:
        for task in (watching, stalling):
            task.cancel()
        await asyncio.gather(watching, stalling, return_exceptions=True)


async def _wait_for_stall(worker: Worker, timeout_s: float) -> None:
    stalled_s = 0.0
    while stalled_s < timeout_s:
        # A stall that begins in this sleep is that much older when it is looked at next.
        await asyncio.sleep(timeout_s - stalled_s)
        stalled_s = worker.stalled_s or 0.0
