from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mm_orch.core.background import start_loop

if TYPE_CHECKING:
    import pytest


def told_by(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [one for one in caplog.records if one.name == "mm_orch.core.background"]


async def fail() -> None:
    raise ZeroDivisionError("nothing to divide by")


async def end() -> None:
    """Do nothing."""


async def go_on() -> None:
    await asyncio.Event().wait()


async def test_a_loop_that_a_fault_ends_is_told_of_with_its_name_and_its_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = start_loop(fail(), "sweep the floor")
    await asyncio.wait([task])

    [record] = told_by(caplog)
    assert record.levelno == logging.ERROR
    assert "'sweep the floor'" in record.getMessage()
    assert "ZeroDivisionError: nothing to divide by" in caplog.text
    assert task.get_name() == "sweep the floor"


async def test_a_loop_that_is_cancelled_or_ends_by_itself_is_not_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended, cancelled = start_loop(end(), "end"), start_loop(go_on(), "go on")
    await asyncio.wait([ended])
    cancelled.cancel()
    await asyncio.wait([cancelled])

    assert cancelled.cancelled()
    assert told_by(caplog) == []
