"""The loop that looks at the GPUs; what follows from failing ones is tested with real workers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mm_orch.core.events import ErrorOccurred
from mm_orch.gpus.nvml import open_nvml
from mm_orch.gpus.watch import GpuWatch
from mm_orch.optimization.manager import OptimizationManager
from tests.fake_nvml import FakeNvml
from tests.recorder import Recorder

if TYPE_CHECKING:
    import pytest

    from mm_orch.gpus.nvml import GpuReader


async def test_a_reading_that_fails_ends_nothing_and_the_next_one_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mm_orch.optimization.placing.places.CHECK_EVERY_S", 0.01)
    recorder, nvml, num_tried = Recorder(), FakeNvml(), 0

    def find() -> GpuReader | None:
        nonlocal num_tried
        num_tried += 1
        if num_tried == 1:
            raise RuntimeError("a driver that nobody has thought of")
        return open_nvml(nvml)

    async with (
        OptimizationManager(
            {},
            remotes={},
            budget_bytes=1,
            max_models=1,
            gpus=GpuWatch(find),
            observer=recorder,
            clock=time.monotonic,
        ) as manager,
        asyncio.timeout(60),
    ):
        while not manager.places.gpus:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.01)

    [error] = recorder.of(ErrorOccurred)
    assert (error.component, error.error_type) == ("placing", "RuntimeError")
