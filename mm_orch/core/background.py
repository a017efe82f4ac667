"""Starts the loops that run beside everything else, and tells of one that ends by a fault."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

logger = logging.getLogger(__name__)


def start_loop(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Return the task that runs a loop; its owner cancels it.

    What ends it otherwise is logged when it happens: the owner sees it hours later, or not at all.

    Args:
        work: the loop.
        name: of the task, which the log names.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_fault)
    return task


def _tell_fault(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        logger.error(
            "the loop %r ended by a fault, and does nothing more", task.get_name(), exc_info=error
        )
