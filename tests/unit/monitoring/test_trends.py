from __future__ import annotations

import dataclasses

from mm_orch.core.events import GpuReading, LoadChanged, ResourcesRead
from mm_orch.core.figures import GpuFigures, ResourceFigures, TrendFigures
from mm_orch.monitoring.trends import ResourceTrends
from tests.unit.monitoring.clock import StillClock

GPU = GpuReading(
    gpu_id="0", used_bytes=4, total_bytes=8, utilization_percent=50, temperature_celsius=60
)
LOST = dataclasses.replace(GPU, used_bytes=0, utilization_percent=None, fault="is lost")


def reading(cpu_percent: float, used: int, *gpus: GpuReading) -> ResourcesRead:
    return ResourcesRead(
        cpu_percent=cpu_percent, memory_used_bytes=used, memory_total_bytes=100, gpus=gpus
    )


def always(value: float) -> TrendFigures:
    return TrendFigures(last=value, mean=value, min=value, max=value)


def test_trends_hold_least_mean_greatest_and_last() -> None:
    clock = StillClock()
    trends = ResourceTrends(clock=clock)
    for cpu_percent, used in ((10, 1), (30, 2), (20, 6)):
        trends.observe(reading(cpu_percent, used, GPU))
        clock.now_s += 30

    assert trends.read() == ResourceFigures(
        cpu_percent=TrendFigures(last=20, mean=20, min=10, max=30),
        memory_used_bytes=TrendFigures(last=6, mean=3, min=1, max=6),
        memory_total_bytes=100,
        gpus=(
            GpuFigures(
                gpu_id="0",
                is_healthy=True,
                memory_total_bytes=8,
                memory_used_bytes=always(4),
                utilization_percent=always(50),
                temperature_celsius=always(60),
            ),
        ),
    )


def test_the_zeros_of_a_lost_gpu_are_no_measurements() -> None:
    clock = StillClock()
    trends = ResourceTrends(clock=clock)
    trends.observe(reading(10, 1, GPU))
    trends.observe(reading(10, 1, LOST))

    [gpu] = trends.read().gpus
    assert (gpu.is_healthy, gpu.fault) == (False, "is lost")
    assert gpu.memory_used_bytes == always(4)
    clock.now_s += 300
    [gpu] = trends.read().gpus
    assert (gpu.is_healthy, gpu.memory_used_bytes) == (False, None)


def test_what_a_card_does_not_offer_has_no_trend() -> None:
    trends = ResourceTrends(clock=StillClock())
    trends.observe(reading(10, 1, GpuReading(gpu_id="0", used_bytes=4, total_bytes=8)))

    [gpu] = trends.read().gpus
    assert gpu.memory_used_bytes == always(4)
    assert (gpu.utilization_percent, gpu.temperature_celsius) == (None, None)


def test_a_gpu_has_failed_until_it_can_be_read_again() -> None:
    trends = ResourceTrends(clock=StillClock())
    trends.observe(reading(10, 1, GPU, dataclasses.replace(LOST, gpu_id="1")))
    assert [gpu.fault for gpu in trends.read().gpus] == ["", "is lost"]

    trends.observe(reading(10, 1, GPU, dataclasses.replace(GPU, gpu_id="1")))
    assert [gpu.fault for gpu in trends.read().gpus] == ["", ""]


def test_a_gpu_that_is_no_longer_told_of_is_forgotten() -> None:
    trends = ResourceTrends(clock=StillClock())
    trends.observe(reading(10, 1, GPU))
    trends.observe(reading(10, 1))

    assert trends.read().gpus == ()


def test_what_has_left_the_window_is_forgotten() -> None:
    clock = StillClock()
    trends = ResourceTrends(clock=clock)
    trends.observe(reading(99, 99))
    clock.now_s += 200
    trends.observe(reading(10, 1))
    clock.now_s += 150

    read = trends.read()
    assert (read.cpu_percent, read.memory_used_bytes) == (always(10), always(1))


def test_before_any_reading_there_are_no_figures() -> None:
    trends = ResourceTrends(clock=StillClock())
    trends.observe(LoadChanged(model="small", num_running=1, num_waiting=0))

    assert trends.read() == ResourceFigures()
