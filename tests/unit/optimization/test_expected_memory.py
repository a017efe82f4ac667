"""What a model is expected to take of this machine before it was ever measured."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from mm_orch.optimization.files import ModelFiles
from mm_orch.optimization.plan import EnginePlan, ModelPlan
from mm_orch.optimization.residents import Residents
from tests.integration.test_supervisor import STORED
from tests.recorder import Recorder
from tests.unit.optimization.test_gpu_needs import make_plan
from tests.unit.optimization.test_residents import add

GIB = 1 << 30
LARGE = msgspec.structs.replace(STORED, size_bytes=15 * GIB)


async def expect(*, is_on_cluster: bool) -> tuple[ModelPlan, ModelFiles]:
    plan = make_plan(LARGE, EnginePlan(name="a"), is_on_cluster=is_on_cluster)
    files = ModelFiles()
    await files.ensure("m", lambda: LARGE)
    return plan, files


@pytest.mark.parametrize(("is_on_cluster", "is_large"), [(False, True), (True, False)])
async def test_files_are_counted_where_they_are_loaded(
    is_on_cluster: bool,  # noqa: FBT001 - a parameter of the table
    is_large: bool,  # noqa: FBT001 - the same
) -> None:
    plan, files = await expect(is_on_cluster=is_on_cluster)

    expected = plan.expect_bytes(files)

    assert (expected >= LARGE.size_bytes) is is_large
    # What stands here for the worker takes something.
    assert expected > 0


async def test_large_models_of_a_cluster_have_a_place_side_by_side_in_a_small_front() -> None:
    plan, files = await expect(is_on_cluster=True)
    recorder = Recorder()
    residents = Residents(
        budget_bytes=4 * GIB,
        max_models=9,
        expect_bytes=lambda _: plan.expect_bytes(files),
        idle_unload_s=lambda _: None,
        observer=recorder,
        clock=time.monotonic,
    )
    async with asyncio.timeout(10):
        for name in ("a", "b", "c"):
            add(residents, name, recorder, asyncio.sleep(0))
            await residents.make_room(name)

    assert len(residents.describe()) == 3
    assert await residents.find_obstacle("a") == ""
