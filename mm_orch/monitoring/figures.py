"""Puts together what ``GET /api/metrics`` answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.figures import CacheFigures, Figures

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock
    from mm_orch.core.figures import ModelFigures, OperationFigures, WorkflowFigures
    from mm_orch.monitoring.history import History
    from mm_orch.monitoring.performance import PerformanceMonitor
    from mm_orch.monitoring.trends import ResourceTrends

REUSE_S = 1.0
"""Below the interval at which a page polls: one page never sees the same windows twice."""


@dataclass(frozen=True, slots=True)
class _Windows:
    read_at_s: float
    models: tuple[ModelFigures, ...]
    operations: tuple[OperationFigures, ...]
    workflows: tuple[WorkflowFigures, ...]


class FiguresReader:
    """Reads all figures; those of the windows at most once a second, however many ask.

    Args:
        performance: of models, operations and workflows.
        trends: of the machine.
        history: the charts' points.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        performance: PerformanceMonitor,
        trends: ResourceTrends,
        history: History,
        *,
        clock: Clock,
    ) -> None:
        self._performance = performance
        self._trends = trends
        self._history = history
        self._clock = clock
        self._windows: _Windows | None = None

    def read(self, after: float | None = None) -> Figures:
        """Return the figures of now; milliseconds of work, to be encoded by msgspec.

        Args:
            after: only the points whose ``at`` is greater; all when not given.
        """
        windows = self._read_windows()
        return Figures(
            window_seconds=self._performance.window_s,
            models=windows.models,
            operations=windows.operations,
            workflows=windows.workflows,
            resources=self._trends.read(),
            history=self._history.read(after),
        )

    def caches(self) -> dict[tuple[str, str], CacheFigures]:
        """Return what is known of KV memory, by model and engine."""
        return {
            (figures.model, figures.engine): CacheFigures(
                kv_use_ratio=figures.kv_use_ratio, cache_hit_ratio=figures.cache_hit_ratio
            )
            for figures in self._read_windows().models
        }

    def _read_windows(self) -> _Windows:
        windows, now_s = self._windows, self._clock()
        if windows is None or now_s - windows.read_at_s >= REUSE_S:
            performance = self._performance
            windows = self._windows = _Windows(
                now_s, performance.models(), performance.operations(), performance.workflows()
            )
        return windows
