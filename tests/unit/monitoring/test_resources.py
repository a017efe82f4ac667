from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.core.events import ErrorOccurred, ResourcesRead
from mm_orch.core.memory import Memory
from mm_orch.gpus.nvml import GpuReader, open_nvml
from mm_orch.gpus.watch import GpuWatch
from mm_orch.monitoring.resources import HostReader, ResourceSampler
from tests.fake_nvml import FakeNvml

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace

    from mm_orch.core.events import Event


def times_of(*readings: dict[str, float]) -> Callable[[], dict[str, float]]:
    left = iter(readings)
    return lambda: next(left)


def memory() -> Memory:
    return Memory(3, 8)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        ({"user": 1, "idle": 1}, {"user": 2, "idle": 4}, 25),
        ({"user": 1, "idle": 1}, {"user": 1, "idle": 3}, 0),
        ({"user": 1, "idle": 1, "iowait": 0}, {"user": 2, "idle": 2, "iowait": 2}, 25),
        # A guest's time is in the user's time as well.
        ({"user": 1, "idle": 1, "guest": 0}, {"user": 2, "idle": 2, "guest": 1}, 50),
        # A counter that goes back has stood still.
        ({"user": 1, "idle": 9}, {"user": 2, "idle": 8}, 100),
    ],
)
def test_processors_are_as_busy_as_since_the_last_reading(
    before: dict[str, float], after: dict[str, float], percent: float
) -> None:
    reader = HostReader(memory=memory, cpu_times=times_of(before, after, after))

    assert reader.read().cpu_percent is None
    assert reader.read().cpu_percent == pytest.approx(percent)
    # No time has passed since: there is nothing to tell.
    assert reader.read().cpu_percent is None


def test_processors_without_rest_are_no_more_than_wholly_busy() -> None:
    # 100 times the time spent, divided by it, is more than 100 here.
    before = {"user": 9655.44, "nice": 76.91, "system": 2938.7, "irq": 2093.2, "idle": 4693.47}
    after = {"user": 9657.4, "nice": 78.01, "system": 2940.57, "irq": 2094.24, "idle": 4693.47}
    reader = HostReader(memory=memory, cpu_times=times_of(before, after))
    reader.read()

    assert reader.read().cpu_percent == 100


def test_a_load_that_began_before_the_first_reading_is_no_rest() -> None:
    readings = [{"user": 10.0 * k, "idle": 50.0} for k in range(1, 4)]
    reader = HostReader(memory=memory, cpu_times=times_of(*readings))

    assert [reader.read().cpu_percent for _ in readings] == [None, 100, 100]


def no_gpus() -> None:
    return None


def test_this_machine_can_be_read() -> None:
    read = HostReader().read()

    assert read.cpu_percent is None
    assert 0 < read.memory_used_bytes <= read.memory_total_bytes


class _Recorder:
    """Notes events, and in which thread they came."""

    def __init__(self, num_awaited: int = 1) -> None:
        self.events: list[Event] = []
        self.threads: set[int] = set()
        self.is_full = asyncio.Event()
        self._num_awaited = num_awaited

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self.threads.add(threading.get_ident())
        if len(self.events) >= self._num_awaited:
            self.is_full.set()


def watch(nvml: FakeNvml, timeout_s: float = 30) -> GpuWatch:
    return GpuWatch(lambda: open_nvml(nvml), timeout_s=timeout_s)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_readings_are_made_beside_the_loop_and_observed_on_it() -> None:
    readers: set[int] = set()

    def read_there() -> Memory:
        readers.add(threading.get_ident())
        return memory()

    recorder = _Recorder(num_awaited=3)
    sampler = ResourceSampler(
        HostReader(memory=read_there), GpuWatch(no_gpus), recorder, interval_s=0
    )
    task = asyncio.create_task(sampler.run())
    await asyncio.wait_for(recorder.is_full.wait(), 30)
    await end(task)

    assert all(isinstance(event, ResourcesRead) for event in recorder.events)
    assert recorder.threads == {threading.get_ident()}
    assert threading.get_ident() not in readers


@pytest.mark.parametrize(("interval_s", "pauses_s"), [(60, [5, 60, 60]), (2, [2, 2, 2])])
async def test_the_second_reading_comes_soon_and_is_the_first_to_know_of_processors(
    interval_s: float, pauses_s: list[float]
) -> None:
    recorder, slept_s = _Recorder(), list[float]()
    readings = [{"user": 10.0 * k, "idle": 30.0 * k} for k in range(len(pauses_s))]

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)
        if len(slept_s) == len(pauses_s):
            raise asyncio.CancelledError

    host = HostReader(memory=memory, cpu_times=times_of(*readings))
    sampler = ResourceSampler(host, GpuWatch(no_gpus), recorder, interval_s=interval_s, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await sampler.run()

    assert slept_s == pauses_s
    reads = [event for event in recorder.events if isinstance(event, ResourcesRead)]
    assert [read.cpu_percent for read in reads] == [None, 25, 25]


async def test_a_reading_holds_host_and_gpus() -> None:
    gpus, recorder = watch(FakeNvml(num_gpus=1)), _Recorder()
    await ResourceSampler(HostReader(memory=memory), gpus, recorder, interval_s=3600).sample()
    await gpus.aclose()

    [read] = recorder.events
    assert isinstance(read, ResourcesRead)
    assert (read.memory_used_bytes, read.memory_total_bytes) == (3, 8)
    assert [gpu.gpu_id for gpu in read.gpus] == ["0"]


async def test_who_asks_at_the_same_time_shares_a_reading_and_closing_ends_them() -> None:
    nvml = HangingNvml()
    gpus = watch(nvml)
    first, second = await asyncio.gather(gpus.read(), gpus.read())

    assert first is second
    assert nvml.num_asked == 2
    await gpus.aclose()
    assert nvml.num_starts == 0
    assert await gpus.read() == ()


class HangingNvml(FakeNvml):
    """Two GPUs whose memory cannot be told while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.num_asked = 0

    def nvmlDeviceGetMemoryInfo(self, device: SimpleNamespace) -> object:  # noqa: N802
        self.num_asked += 1
        assert self.gate.wait(30)
        return super().nvmlDeviceGetMemoryInfo(device)


async def test_while_the_gpus_hang_the_host_is_read_and_they_are_unhealthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nvml, recorder = HangingNvml(), _Recorder()
    gpus = watch(nvml, timeout_s=0.01)
    sampler = ResourceSampler(HostReader(memory=memory), gpus, recorder, interval_s=1)
    while not recorder.events or gpus.is_hanging:
        await sampler.sample()
    nvml.gate.clear()
    recorder.events.clear()
    nvml.num_asked = 0
    caplog.clear()

    for _ in range(3):
        await sampler.sample()

    hanging = [event for event in recorder.events if isinstance(event, ResourcesRead)]
    assert [[gpu.is_healthy for gpu in read.gpus] for read in hanging] == [[False, False]] * 3
    assert {read.memory_used_bytes for read in hanging} == {3}
    assert [event for event in recorder.events if isinstance(event, ErrorOccurred)] == [
        ErrorOccurred(component="monitoring", error_type="TimeoutError")
    ] * 3
    assert [record.message for record in caplog.records] == ["the GPUs cannot be read: NVML hangs"]
    assert nvml.num_asked == 1
    # To close a library that hangs would hang as well.
    await gpus.aclose()
    assert nvml.num_starts == 1

    nvml.gate.set()
    while gpus.is_hanging:
        await sampler.sample()
    last = recorder.events[-1]
    assert isinstance(last, ResourcesRead)
    assert [gpu.is_healthy for gpu in last.gpus] == [True, True]
    await gpus.aclose()


async def test_a_driver_that_does_not_wake_costs_no_reading_of_the_host() -> None:
    gate, recorder = threading.Event(), _Recorder()

    def wake() -> GpuReader | None:
        assert gate.wait(30)
        return None

    gpus = GpuWatch(wake, timeout_s=0)
    await ResourceSampler(HostReader(memory=memory), gpus, recorder, interval_s=1).sample()
    await gpus.aclose()
    gate.set()

    assert [type(event) for event in recorder.events] == [ErrorOccurred, ResourcesRead]


async def test_what_cannot_be_read_is_told_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[Exception] = [OSError("no"), psutil.Error("no"), OSError("no")]

    def read_at_last() -> Memory:
        if failures:
            raise failures.pop()
        return memory()

    recorder = _Recorder()
    host = HostReader(memory=read_at_last)
    sampler = ResourceSampler(host, GpuWatch(no_gpus), recorder, interval_s=1)
    for _ in range(3):
        await sampler.sample()
    assert recorder.events == [
        ErrorOccurred(component="monitoring", error_type=name)
        for name in ("OSError", "Error", "OSError")
    ]
    assert len(caplog.records) == 1

    await sampler.sample()
    assert isinstance(recorder.events[-1], ResourcesRead)
