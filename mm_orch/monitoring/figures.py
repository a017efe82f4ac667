"""Puts together what ``GET /api/metrics`` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.figures import Figures

if TYPE_CHECKING:
    from mm_orch.monitoring.history import History
    from mm_orch.monitoring.performance import PerformanceMonitor
    from mm_orch.monitoring.trends import ResourceTrends


def read_figures(
    performance: PerformanceMonitor,
    trends: ResourceTrends,
    history: History,
    *,
    after: float | None = None,
) -> Figures:
    """Return the figures of now; milliseconds of work, to be encoded by msgspec.

    Args:
        performance: of models, operations and workflows.
        trends: of the machine.
        history: the charts' points.
        after: only the points whose ``at`` is greater; all when not given.
    """
    return Figures(
        window_seconds=performance.window_s,
        models=performance.models(),
        operations=performance.operations(),
        workflows=performance.workflows(),
        resources=trends.read(),
        history=history.read(after),
    )
