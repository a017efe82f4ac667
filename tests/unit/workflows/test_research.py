"""What workflows that search do with the time that they have."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from mm_orch.workflows.research import Desk, _in_time, make_places
from tests.unit.workflows.search_scene import make_call

if TYPE_CHECKING:
    from mm_orch.core.errors import MuAIError


@pytest.mark.parametrize(("left_s", "has_begun"), [(0.0, False), (60.0, True), (None, True)])
async def test_work_for_which_no_time_is_left_is_not_begun_and_not_left_open(
    left_s: float | None, *, has_begun: bool
) -> None:
    begun: list[bool] = []
    lacking: list[MuAIError] = []

    async def do() -> None:
        begun.append(True)

    desk = Desk(
        call=make_call(),
        services=None,  # type: ignore[arg-type]  # nobody asks them
        remaining_s=lambda: left_s,
        lack=lacking.append,
        places=make_places(),
    )
    work = do()

    await _in_time(desk, work, "It was not done in time.")

    assert bool(begun) is has_begun
    told = [one.message for one in lacking]
    assert told == ([] if has_begun else ["It was not done in time."])
    # Else Python warns of a coroutine that nobody awaits.
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED
