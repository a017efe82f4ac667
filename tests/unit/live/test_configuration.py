"""What is told of options that were changed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from mm_orch.config import load_config
from mm_orch.core.configuration import ConfigurationChanged
from mm_orch.gpus.watch import GpuWatch
from mm_orch.live.configuration import LiveConfiguration
from mm_orch.optimization.manager import OptimizationManager
from mm_orch.orchestration.admission import Admission
from mm_orch.orchestration.gate import Bound, Gate

if TYPE_CHECKING:
    from mm_orch.core.events import Event

CAPACITY = "monitoring.server.queue_capacity"


class Canceller:
    """Cancels who asked for a change as soon as it is in force."""

    def __init__(self) -> None:
        self.caller: asyncio.Task[object] | None = None

    def observe(self, event: Event) -> None:
        if isinstance(event, ConfigurationChanged) and self.caller is not None:
            self.caller.cancel()


async def test_a_change_whose_caller_was_cancelled_is_told_with_its_origin() -> None:
    canceller = Canceller()
    config = load_config(path=None, environ={}, overrides={CAPACITY: 50}).config
    async with OptimizationManager(
        {},
        remotes={},
        budget_bytes=1,
        max_models=1,
        gpus=GpuWatch(lambda: None),
        observer=canceller,
        clock=time.monotonic,
    ) as manager:
        live = LiveConfiguration(
            config,
            {CAPACITY: "the command line"},
            manager=manager,
            admission=Admission(50, time.monotonic),
            gate=Gate(lambda _: Bound(1)),
            observer=canceller,
        )
        canceller.caller = asyncio.create_task(
            live.change({CAPACITY: 51}, source="file", origins={CAPACITY: "muai.yaml, line 3"})
        )
        with pytest.raises(asyncio.CancelledError):
            await canceller.caller

        [told] = [one for one in live.report().options if one.path == CAPACITY]

    assert (told.value, told.origin) == (51, "muai.yaml, line 3")
    assert [(one.path, one.source) for one in live.history] == [(CAPACITY, "file")]
