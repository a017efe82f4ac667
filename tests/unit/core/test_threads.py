from __future__ import annotations

import threading

import pytest

from mm_orch.core.threads import start_abandonable


async def test_a_result_and_an_error_come_back() -> None:
    assert await start_abandonable(lambda: 5, name="five") == 5
    with pytest.raises(ZeroDivisionError):
        await start_abandonable(lambda: 1 // 0, name="none")


async def test_work_that_is_given_up_ends_without_a_trace() -> None:
    may_end = threading.Event()
    future = start_abandonable(may_end.wait, name="given up")
    [thread] = [thread for thread in threading.enumerate() if thread.name == "given up"]

    future.cancel()
    may_end.set()
    thread.join()

    assert thread.daemon
    assert future.cancelled()
