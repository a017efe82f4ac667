"""Runs blocking work beside the event loop, without tying the process's end to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def start_abandonable(work: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Run the work in a daemon thread; return the future of its result.

    Unlike ``asyncio.to_thread``, whose threads are joined when the loop closes, a download that
    takes an hour does not keep the process alive: it must leave nothing that the next run cannot
    repair. Cancelling the future does not stop the work.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T is None

    def run() -> None:
        result, caught = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, whatever it is
            caught = error
        # The loop may have closed: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result, caught)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
