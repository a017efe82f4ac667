"""The series of workflows: how their runs went, and who chose them."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from mm_orch.core.events import RequestStatus
from mm_orch.core.figures import UNKNOWN
from mm_orch.core.routing import WorkflowChosenBy
from mm_orch.core.workflow_events import WorkflowFinished, WorkflowRouted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from mm_orch.core.workflow_events import WorkflowEvent

_PARTIAL = "partial"
# Of several answers of a model, and of pages that are fetched.
_RUN_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class WorkflowSeries:
    """Every series of the known workflows, at zero from the start.

    Args:
        registry: where they are stated.
        workflows: the names; any other is counted as unknown.
    """

    def __init__(self, registry: CollectorRegistry, workflows: Iterable[str]) -> None:
        self._workflows = frozenset(workflows)
        self._runs = Counter(
            "workflow_runs_total",
            "Runs of workflows that have ended, by how they ended.",
            ("workflow", "status"),
            registry=registry,
        )
        self._duration = Histogram(
            "workflow_duration_seconds",
            "Call to end of a run, of runs that were let in.",
            ("workflow",),
            registry=registry,
            buckets=_RUN_S,
        )
        self._decisions = Counter(
            "routing_decisions_total",
            "Workflows that were chosen for calls that named none, by who decided.",
            ("workflow", "by"),
            registry=registry,
        )
        for workflow in (*self._workflows, UNKNOWN):
            self._duration.labels(workflow)
            for status in (*(one.value for one in RequestStatus), _PARTIAL):
                self._runs.labels(workflow, status)
            for by in typing.get_args(WorkflowChosenBy):
                self._decisions.labels(workflow, by)

    def observe(self, event: WorkflowEvent) -> None:
        """Take one fact."""
        match event:
            case WorkflowFinished():
                workflow = self._known(event.workflow)
                status = _PARTIAL if event.is_partial else event.status
                self._runs.labels(workflow, status).inc()
                if event.status != RequestStatus.REJECTED.value:
                    self._duration.labels(workflow).observe(event.total_s)
            case WorkflowRouted() if event.routing.workflow is not None:
                choice = event.routing.workflow
                self._decisions.labels(self._known(choice.workflow), choice.by).inc()
            case _:
                # A step, of which spans tell, or a model chosen for a workflow that was named.
                pass

    def _known(self, workflow: str) -> str:
        return workflow if workflow in self._workflows else UNKNOWN
