"""The series of the machine: processor, memory, GPUs, and how long the server runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import GpuReading, ResourcesRead


class ResourceSeries:
    """Every series; those of GPUs appear with the first GPU that is read."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        begin_s = clock()
        # A gauge without labels shows 0 from the moment it is made.
        self._make_cpu = partial(
            gauge, "cpu_usage_percent", "Time that all processors computed, since the last reading."
        )
        self._cpu: Gauge | None = None
        self._used = gauge("memory_used_bytes", "Memory of this machine or container in use.")
        self._total = gauge("memory_total_bytes", "Memory that this machine or container has.")
        uptime = gauge("system_uptime_seconds", "Time since the server started.")
        uptime.set_function(lambda: clock() - begin_s)
        label = ("gpu_id",)
        self._gpu_used = gauge("gpu_memory_used_bytes", "Memory of the GPU in use.", label)
        self._gpu_free = gauge("gpu_memory_available_bytes", "Memory of the GPU left.", label)
        self._gpu_total = gauge("gpu_memory_total_bytes", "Memory that the GPU has.", label)
        self._gpu_use = gauge("gpu_utilization_percent", "Time that the GPU computed.", label)
        self._gpu_heat = gauge("gpu_temperature_celsius", "Temperature of the GPU.", label)
        self._gpu_power = gauge("gpu_power_watts", "Power that the GPU draws.", label)
        self._gpu_health = gauge("gpu_health_status", "1 while the GPU is well, else 0.", label)

    def observe(self, event: ResourcesRead) -> None:
        """Take one reading."""
        if event.cpu_percent is not None:
            self._cpu = self._cpu or self._make_cpu()
            self._cpu.set(event.cpu_percent)
        self._used.set(event.memory_used_bytes)
        self._total.set(event.memory_total_bytes)
        for gpu in event.gpus:
            self._observe_gpu(gpu)

    def _observe_gpu(self, gpu: GpuReading) -> None:
        self._gpu_health.labels(gpu.gpu_id).set(1 if gpu.is_healthy else 0)
        if not gpu.is_healthy:
            # Its other values are not known; the last ones stay.
            return
        self._gpu_used.labels(gpu.gpu_id).set(gpu.used_bytes)
        self._gpu_free.labels(gpu.gpu_id).set(gpu.total_bytes - gpu.used_bytes)
        self._gpu_total.labels(gpu.gpu_id).set(gpu.total_bytes)
        # What a card does not offer has no series: 0 would be a figure.
        if gpu.utilization_percent is not None:
            self._gpu_use.labels(gpu.gpu_id).set(gpu.utilization_percent)
        if gpu.temperature_celsius is not None:
            self._gpu_heat.labels(gpu.gpu_id).set(gpu.temperature_celsius)
        if gpu.power_watts is not None:
            self._gpu_power.labels(gpu.gpu_id).set(gpu.power_watts)
