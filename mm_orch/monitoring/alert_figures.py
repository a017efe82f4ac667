"""Reads off the windows and trends what the alerts are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.events import LoadChanged
from mm_orch.core.figures import UNKNOWN
from mm_orch.monitoring.alerts.figures import (
    HOST,
    Figures,
    MemoryFigures,
    ModelFigures,
    QueueFigures,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event
    from mm_orch.core.figures import ModelFigures as Window
    from mm_orch.core.figures import ResourceFigures
    from mm_orch.monitoring.performance import PerformanceMonitor
    from mm_orch.monitoring.trends import ResourceTrends

_MIN_SPAN_S = 1.0


class AlertFigures:
    """An observer that knows since when requests of each model wait, and reads the rest.

    Args:
        models: the configured names; queues of others are passed over.
        performance: the windows.
        trends: the machine's.
        reserved_gpu_ratio: share of a GPU's memory that an engine takes at its start.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        models: Iterable[str],
        *,
        performance: PerformanceMonitor,
        trends: ResourceTrends,
        reserved_gpu_ratio: float = 0.0,
        clock: Clock,
    ) -> None:
        self._models = frozenset(models)
        self._performance = performance
        self._trends = trends
        self._reserved_gpu_ratio = reserved_gpu_ratio
        self._clock = clock
        self._waiting_since_s: dict[str, float] = {}

    def observe(self, event: Event) -> None:
        """Take one fact."""
        if isinstance(event, LoadChanged) and event.model in self._models:
            if event.num_waiting == 0:
                self._waiting_since_s.pop(event.model, None)
            else:
                self._waiting_since_s.setdefault(event.model, self._clock())

    def read(self) -> Figures:
        """Return the figures of now; milliseconds of work."""
        windows = [one for one in self._performance.models() if one.engine != UNKNOWN]
        return Figures(
            models=tuple(_read_model(window) for window in windows if window.model in self._models),
            queues=tuple(self._read_queue(model) for model in sorted(self._waiting_since_s)),
            memory=_read_memory(self._trends.read(), self._reserved_gpu_ratio),
        )

    def _read_queue(self, model: str) -> QueueFigures:
        waiting_s = self._clock() - self._waiting_since_s[model]
        span_s = min(self._performance.window_s, max(_MIN_SPAN_S, waiting_s))
        engines = [one for one in self._performance.models(span_s) if one.model == model]
        return QueueFigures(
            model=model,
            num_waiting=self._performance.load(model).num_waiting,
            waiting_s=waiting_s,
            throughput_rps=sum(one.throughput_requests_per_second for one in engines),
        )


def _read_model(window: Window) -> ModelFigures:
    latency = window.latency
    num_others = window.num_failed + window.num_rejected + window.num_cancelled
    return ModelFigures(
        model=window.model,
        engine=window.engine,
        num_succeeded=window.num_requests - num_others,
        num_failed=window.num_failed,
        latency_p50_s=latency.p50 if latency else None,
        latency_p95_s=latency.p95 if latency else None,
    )


def _read_memory(
    resources: ResourceFigures, reserved_gpu_ratio: float
) -> tuple[MemoryFigures, ...]:
    places = [(HOST, resources.memory_used_bytes, resources.memory_total_bytes, 0.0)]
    places += [
        (gpu.gpu_id, gpu.memory_used_bytes, gpu.memory_total_bytes, reserved_gpu_ratio)
        for gpu in resources.gpus
        if gpu.is_healthy
    ]
    return tuple(
        MemoryFigures(place=place, used_ratio=used.last / total, reserved_ratio=reserved)
        for place, used, total, reserved in places
        if used and total
    )
