from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.core.events import ResourcesRead
from mm_orch.monitoring.gpus import open_nvml
from mm_orch.monitoring.memory import Memory
from mm_orch.monitoring.resources import ResourceReader, ResourceSampler
from tests.unit.monitoring.fake_nvml import FakeNvml

if TYPE_CHECKING:
    from collections.abc import Callable

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
        ({"user": 1, "idle": 1}, {"user": 1, "idle": 1}, 0),
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
    reader = ResourceReader(memory=memory, cpu_times=times_of(before, after, after))

    assert reader.read().cpu_percent == pytest.approx(percent)
    assert reader.read().cpu_percent == 0


def test_processors_without_rest_are_no_more_than_wholly_busy() -> None:
    # 100 times the time spent, divided by it, is more than 100 here.
    before = {"user": 9655.44, "nice": 76.91, "system": 2938.7, "irq": 2093.2, "idle": 4693.47}
    after = {"user": 9657.4, "nice": 78.01, "system": 2940.57, "irq": 2094.24, "idle": 4693.47}
    reader = ResourceReader(memory=memory, cpu_times=times_of(before, after))

    assert reader.read().cpu_percent == 100


def test_a_reading_holds_memory_and_gpus() -> None:
    nvml = FakeNvml(num_gpus=1)
    reader = ResourceReader(open_nvml(nvml), memory=memory)
    read = reader.read()
    reader.close()

    assert (read.memory_used_bytes, read.memory_total_bytes) == (3, 8)
    assert [gpu.gpu_id for gpu in read.gpus] == ["0"]
    assert nvml.num_starts == 0


def test_this_machine_can_be_read() -> None:
    reader = ResourceReader()
    read = reader.read()
    reader.close()

    assert 0 <= read.cpu_percent <= 100
    assert 0 < read.memory_used_bytes <= read.memory_total_bytes
    assert read.gpus == ()


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


async def test_readings_are_made_beside_the_loop_and_observed_on_it() -> None:
    readers: set[int] = set()

    def read_there() -> Memory:
        readers.add(threading.get_ident())
        return memory()

    recorder = _Recorder(num_awaited=3)
    sampler = ResourceSampler(ResourceReader(memory=read_there), recorder, interval_s=0)
    task = asyncio.create_task(sampler.run())
    await asyncio.wait_for(recorder.is_full.wait(), 30)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert all(isinstance(event, ResourcesRead) for event in recorder.events)
    assert recorder.threads == {threading.get_ident()}
    assert threading.get_ident() not in readers


@pytest.mark.parametrize("is_hanging", [False, True])
async def test_the_end_closes_the_reader_unless_it_hangs_in_a_reading(*, is_hanging: bool) -> None:
    nvml = FakeNvml()
    loop = asyncio.get_running_loop()
    begun, go_on, recorder = asyncio.Event(), threading.Event(), _Recorder()

    def read_slowly() -> Memory:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(30)
        return memory()

    reader = ResourceReader(open_nvml(nvml), memory=read_slowly if is_hanging else memory)
    task = asyncio.create_task(ResourceSampler(reader, recorder, interval_s=3600).run())
    await asyncio.wait_for((begun if is_hanging else recorder.is_full).wait(), 30)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    num_starts = nvml.num_starts
    go_on.set()

    assert num_starts == int(is_hanging)


async def test_what_cannot_be_read_is_told_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[Exception] = [OSError("no"), psutil.Error("no"), OSError("no")]

    def read_at_last() -> Memory:
        if failures:
            raise failures.pop()
        return memory()

    recorder = _Recorder()
    sampler = ResourceSampler(ResourceReader(memory=read_at_last), recorder)
    for _ in range(3):
        await sampler.sample()
    assert recorder.events == []
    assert len(caplog.records) == 1

    await sampler.sample()
    assert len(recorder.events) == 1
