"""Puts together what the system can do now, of what its parts report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from mm_orch.core.mind_report import EngineFacts, ModelFacts, SelfModel, WorkflowFacts
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mm_orch.orchestration.reports import ModelReport, StatusReport

_STATE_BY_PHASE: Mapping[ModelPhase, Literal["loaded", "loadable", "loading", "failing"]] = {
    ModelPhase.UNLOADED: "loadable",
    ModelPhase.LOADING: "loading",
    ModelPhase.READY: "loaded",
    ModelPhase.RESTARTING: "loading",
    ModelPhase.FAILED: "failing",
    ModelPhase.STUCK: "failing",
}


def make_self_model(
    status: StatusReport,
    workflows: Iterable[WorkflowFacts],
    *,
    features: Mapping[str, bool],
    find_gate: Callable[[str], str],
) -> SelfModel:
    """Return what the system can do.

    Args:
        status: of models, engines and load.
        workflows: that are installed, available or broken.
        features: what may be switched off, and whether it is on.
        find_gate: says why a workflow is not allowed; empty where it is.
    """
    health = status.health
    return SelfModel(
        health=health.status.value,
        health_reasons=health.degradation_reasons,
        is_ready=status.is_ready,
        not_ready_because=status.not_ready_because,
        version=health.version,
        uptime_s=health.uptime_seconds,
        default_model=status.default_model,
        models=tuple(map(_describe_model, status.models)),
        engines=tuple(
            EngineFacts(name=one.engine, is_available=one.is_available, reason=one.reason)
            for one in status.engines
        ),
        workflows=tuple(_gate(one, find_gate(one.name)) for one in workflows),
        num_running=status.num_running,
        num_waiting=status.num_waiting,
        queue_capacity=health.queue_capacity,
        features=dict(features),
    )


def _describe_model(report: ModelReport) -> ModelFacts:
    return ModelFacts(
        name=report.name,
        task=report.task,
        state=_STATE_BY_PHASE[report.phase],
        engine=report.engine,
        detail="it is being drained" if report.is_draining else report.short_detail,
    )


def _gate(workflow: WorkflowFacts, reason: str) -> WorkflowFacts:
    if workflow.state == "available" and reason:
        return replace(workflow, state="gated", detail=reason)
    return workflow
