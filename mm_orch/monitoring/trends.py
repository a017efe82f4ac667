"""How the use of processors, memory and GPUs went in the last minutes."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from mm_orch.core.events import ResourcesRead
from mm_orch.core.figures import GpuFigures, ResourceFigures, TrendFigures
from mm_orch.monitoring.window import WINDOW_S, SlidingWindow

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event, GpuReading


class _Slot:
    __slots__ = ("count", "last", "max", "min", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.last = 0.0
        self.min = math.inf
        self.max = -math.inf


class Trend:
    """Mean, least, greatest and last of a reading over a sliding window."""

    def __init__(self, *, clock: Clock, window_s: float) -> None:
        self._window = SlidingWindow(_Slot, clock=clock, window_s=window_s)

    def add(self, value: float | None) -> None:
        """Take a reading; None is none."""
        if value is None:
            return
        slot = self._window.slot_now()
        slot.count += 1
        slot.sum += value
        slot.last = value
        slot.min = min(slot.min, value)
        slot.max = max(slot.max, value)

    def read(self) -> TrendFigures | None:
        """Return the window's figures, or None when nothing has been read in it."""
        slots = self._window.slots()
        if not slots:
            return None
        return TrendFigures(
            last=slots[-1].last,
            mean=sum(slot.sum for slot in slots) / sum(slot.count for slot in slots),
            min=min(slot.min for slot in slots),
            max=max(slot.max for slot in slots),
        )


class ResourceTrends:
    """An observer of what the machine uses; asked by alerts and by the JSON API.

    GPUs are those of the last reading.
    """

    def __init__(self, *, window_s: float = WINDOW_S, clock: Clock = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._cpu_percent = self._new_trend()
        self._memory_used = self._new_trend()
        self._memory_total_bytes: int | None = None
        self._gpus: dict[str, _GpuTrends] = {}

    def observe(self, event: Event) -> None:
        """Take one fact."""
        if not isinstance(event, ResourcesRead):
            return
        self._cpu_percent.add(event.cpu_percent)
        self._memory_used.add(event.memory_used_bytes)
        self._memory_total_bytes = event.memory_total_bytes
        self._gpus = {
            reading.gpu_id: self._gpus.get(reading.gpu_id) or self._new_gpu(reading)
            for reading in event.gpus
        }
        for reading in event.gpus:
            self._gpus[reading.gpu_id].add(reading)

    def read(self) -> ResourceFigures:
        """Return the figures of the window."""
        return ResourceFigures(
            cpu_percent=self._cpu_percent.read(),
            memory_used_bytes=self._memory_used.read(),
            memory_total_bytes=self._memory_total_bytes,
            gpus=tuple(gpu.read() for gpu in self._gpus.values()),
        )

    def _new_trend(self) -> Trend:
        return Trend(clock=self._clock, window_s=self._window_s)

    def _new_gpu(self, reading: GpuReading) -> _GpuTrends:
        return _GpuTrends(reading, self._new_trend(), self._new_trend(), self._new_trend())


class _GpuTrends:
    def __init__(
        self, reading: GpuReading, used: Trend, utilization: Trend, temperature: Trend
    ) -> None:
        self._last = reading
        self._used = used
        self._utilization = utilization
        self._temperature = temperature

    def add(self, reading: GpuReading) -> None:
        self._last = reading
        # The zeros of one that cannot be read are no measurements.
        if reading.is_healthy:
            self._used.add(reading.used_bytes)
            self._utilization.add(reading.utilization_percent)
            self._temperature.add(reading.temperature_celsius)

    def read(self) -> GpuFigures:
        return GpuFigures(
            gpu_id=self._last.gpu_id,
            is_healthy=self._last.is_healthy,
            memory_total_bytes=self._last.total_bytes,
            memory_used_bytes=self._used.read(),
            utilization_percent=self._utilization.read(),
            temperature_celsius=self._temperature.read(),
            fault=self._last.fault,
        )
