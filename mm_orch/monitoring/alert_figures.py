"""Reads off the windows and trends what the alerts are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.events import LoadChanged
from mm_orch.core.figures import UNKNOWN
from mm_orch.monitoring.alerts.figures import (
    ANY_ENGINE,
    HOST,
    Figures,
    MemoryFigures,
    ModelFigures,
    QueueFigures,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event
    from mm_orch.core.figures import ResourceFigures
    from mm_orch.monitoring.performance import PerformanceMonitor
    from mm_orch.monitoring.request_window import Outcome
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
        resources = self._trends.read()
        return Figures(
            models=tuple(_read_models(self._performance.outcomes())),
            queues=tuple(self._read_queue(model) for model in sorted(self._waiting_since_s)),
            memory=_read_memory(resources, self._reserved_gpu_ratio),
            fault_by_gpu={gpu.gpu_id: gpu.fault for gpu in resources.gpus if gpu.fault},
        )

    def _read_queue(self, model: str) -> QueueFigures:
        waiting_s = self._clock() - self._waiting_since_s[model]
        span_s = min(self._performance.window_s, max(_MIN_SPAN_S, waiting_s))
        return QueueFigures(
            model=model,
            num_waiting=self._performance.load(model).num_waiting,
            waiting_s=waiting_s,
            throughput_rps=self._performance.throughput_rps(model, span_s),
        )


def _read_models(outcomes: dict[tuple[str, str], Outcome]) -> Iterator[ModelFigures]:
    """Yield each model on each engine, and as a whole each that failed without an engine."""
    for (model, engine), outcome in outcomes.items():
        if engine != UNKNOWN:
            latency = outcome.latency
            yield ModelFigures(
                model=model,
                engine=engine,
                num_succeeded=outcome.num_succeeded,
                num_failed=outcome.num_failed,
                latency_p50_s=latency.p50 if latency else None,
                latency_p95_s=latency.p95 if latency else None,
            )
        elif outcome.num_failed:
            every = [one for (name, _), one in outcomes.items() if name == model]
            yield ModelFigures(
                model=model,
                engine=ANY_ENGINE,
                num_succeeded=sum(one.num_succeeded for one in every),
                num_failed=sum(one.num_failed for one in every),
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
