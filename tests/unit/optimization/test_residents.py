"""Room for another replica among the models in memory."""

from __future__ import annotations

import asyncio
import time

from mm_orch.optimization.residents import Residents
from tests.recorder import Recorder


async def test_two_that_look_for_room_at_the_same_moment_both_find_it() -> None:
    residents = Residents(
        budget_bytes=100,
        max_models=2,
        expect_bytes=lambda _: 60,
        idle_unload_s=lambda _: None,
        observer=Recorder(),
        clock=time.monotonic,
    )

    obstacles = await asyncio.gather(residents.find_obstacle("a"), residents.find_obstacle("b"))

    assert obstacles == ["", ""]
