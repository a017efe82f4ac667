from __future__ import annotations

import time

import msgspec
import pytest

from mm_orch.core.figures import CacheFigures
from mm_orch.gpus.nvml import open_nvml
from mm_orch.gpus.watch import GpuWatch
from mm_orch.kv_cache.cache import CacheStats
from mm_orch.optimization.manager import OptimizationManager
from mm_orch.orchestration.admission import Admission
from mm_orch.orchestration.reports import HealthStatus, ModelReport
from mm_orch.orchestration.status import SystemStatus, _with_cache
from mm_orch.workers.phase import ModelPhase
from tests.fake_nvml import FakeNvml
from tests.recorder import Recorder

REPORT = ModelReport(name="m", aliases=(), source="s", phase=ModelPhase.READY, engine="e")
OWN = CacheStats(
    num_blocks=8,
    num_free=4,
    num_cached=2,
    num_prompt_tokens=10,
    num_reused_tokens=5,
    num_evictions=0,
)
SEEN = CacheFigures(kv_use_ratio=0.75, cache_hit_ratio=0.1)


@pytest.mark.parametrize(
    ("cache", "seen", "ratios"),
    [
        (OWN, {("m", "e"): SEEN}, (0.25, 0.5)),
        (None, {("m", "e"): SEEN}, (0.75, 0.1)),
        (None, {("m", "other"): SEEN}, (None, None)),
        (None, {}, (None, None)),
    ],
)
def test_kv_memory_is_told_by_our_own_cache_or_as_it_has_been_seen(
    cache: CacheStats | None,
    seen: dict[tuple[str, str], CacheFigures],
    ratios: tuple[float | None, float | None],
) -> None:
    told = _with_cache(msgspec.structs.replace(REPORT, cache=cache), seen)

    assert (told.kv_use_ratio, told.cache_hit_ratio) == ratios


async def test_a_failed_gpu_degrades_health_until_it_is_well() -> None:
    nvml = FakeNvml()
    async with OptimizationManager(
        {},
        remotes={},
        budget_bytes=1,
        max_models=1,
        gpus=GpuWatch(lambda: open_nvml(nvml)),
        observer=Recorder(),
        clock=time.monotonic,
    ) as manager:
        status = SystemStatus(
            manager=manager,
            admission=Admission(1, time.monotonic),
            required_models=(),
            default_model="m",
            engines=(),
            find_alerts=lambda: None,
            find_caches=dict,
            find_store_failure=lambda: None,
            clock=time.monotonic,
            version="0",
        )
        await manager.places.read()
        nvml.lose(1)
        await manager.places.read()
        assert status.health().status is HealthStatus.DEGRADED
        assert status.health().degradation_reasons == ("GPU 1 cannot be read: error 15",)

        nvml.error_by_call.clear()
        await manager.places.read()

        assert status.health().status is HealthStatus.HEALTHY
