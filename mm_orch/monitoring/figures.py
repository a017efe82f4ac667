"""Puts together what ``GET /api/metrics`` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.figures import Figures

if TYPE_CHECKING:
    from mm_orch.monitoring.history import History
    from mm_orch.monitoring.performance import PerformanceMonitor
    from mm_orch.monitoring.trends import ResourceTrends


def read_figures(
    performance: PerformanceMonitor, trends: ResourceTrends, history: History
) -> Figures:
    """Return the figures of now; milliseconds of work, to be encoded by msgspec."""
    return Figures(
        window_seconds=performance.window_s,
        models=performance.models(),
        operations=performance.operations(),
        workflows=performance.workflows(),
        resources=trends.read(),
        history=history.read(),
    )
