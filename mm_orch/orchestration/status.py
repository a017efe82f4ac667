"""Says how the system is: gathers what models, workers and admission know; decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.figures import UNKNOWN, CacheFigures
from mm_orch.optimization.stand_in import name_stand_in
from mm_orch.orchestration.replica_reports import find_replica_trouble, tell_phase, tell_replicas
from mm_orch.orchestration.reports import (
    EndpointReport,
    HealthReport,
    HealthStatus,
    ModelReport,
    ReadyReport,
    StandInReport,
    StatusReport,
)
from mm_orch.remote.wire import ENGINE
from mm_orch.workers.kv_bytes import find_kv_bytes
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mm_orch.core.clock import Clock
    from mm_orch.core.observations import FiringAlert
    from mm_orch.core.scaling_report import ScalingReports
    from mm_orch.core.tuning_report import TunerReports
    from mm_orch.optimization.engines.contract import Availability
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.optimization.plan import ModelPlan
    from mm_orch.orchestration.admission import Admission
    from mm_orch.remote.fleet import RemoteFleet
    from mm_orch.workers.worker import Worker


# Of the time after which the watchdog replaces it.
_STUCK_SHARE = 0.5
_UNSEEN = CacheFigures(kv_use_ratio=None, cache_hit_ratio=None)


class SystemStatus:
    """Implements orchestration.generation.SystemReports.

    Args:
        required_models: those that must be ready before the server is.
        engines: what was found to run here when the server started.
        find_alerts: gives the alerts that fire now; None where nothing watches for trouble.
        find_caches: gives what has been seen of KV memory, by model and engine.
        find_store_failure: says why nothing can be stored now; None where it can.
    """

    def __init__(
        self,
        *,
        manager: OptimizationManager,
        admission: Admission,
        required_models: Sequence[str],
        default_model: str,
        engines: Sequence[Availability],
        find_alerts: Callable[[], tuple[FiringAlert, ...] | None],
        find_caches: Callable[[], Mapping[tuple[str, str], CacheFigures]],
        find_store_failure: Callable[[], str | None],
        clock: Clock,
        version: str,
    ) -> None:
        self._manager = manager
        self._admission = admission
        self._required_models = tuple(required_models)
        self._default_model = default_model
        self._engines = tuple(engines)
        self._find_alerts = find_alerts
        self._find_caches = find_caches
        self._find_store_failure = find_store_failure
        self._clock = clock
        self._start_s = clock()
        self._version = version
        self._notes: list[str] = []
        self._were_ready: set[str] = set()
        self._tuner: TunerReports | None = None
        self._scaling: ScalingReports | None = None

    def add_degradation(self, reason: str) -> None:
        """Keep health at degraded from now on, for this reason."""
        self._notes.append(reason)

    def tell_of(self, tuner: TunerReports) -> None:
        """Tell of this tuner from now on."""
        self._tuner = tuner

    def tell_of_scaling(self, scaling: ScalingReports) -> None:
        """Tell of what this decides on replicas from now on."""
        self._scaling = scaling

    def health(self) -> HealthReport:
        """Whether the whole is healthy, and why not."""
        reports = [self._report(plan) for plan in self._manager.plans.values()]
        reasons = [*self._notes, *self._reasons(reports)]
        asked_for = [report for report in reports if report.phase is not ModelPhase.UNLOADED]
        cannot_serve = bool(asked_for) and all(
            report.phase is ModelPhase.FAILED for report in asked_for
        )
        status = HealthStatus.DEGRADED if reasons else HealthStatus.HEALTHY
        return HealthReport(
            status=HealthStatus.UNHEALTHY if cannot_serve else status,
            degradation_reasons=tuple(reasons),
            uptime_seconds=self._clock() - self._start_s,
            models_loaded=tuple(r.name for r in reports if r.phase is ModelPhase.READY),
            engines_available=tuple(e.engine for e in self._engines if e.is_available),
            engines=self._engines,
            queue_size=self._admission.num_waiting,
            queue_capacity=self._admission.queue_capacity,
            version=self._version,
            endpoints={r.name: r.endpoints for r in reports if r.endpoints},
        )

    def ready(self) -> ReadyReport:
        """Whether a request sent now would be served."""
        admission = self._admission
        if admission.is_draining:
            return ReadyReport(is_ready=False, reason="draining")
        if admission.num_waiting >= admission.queue_capacity:
            return ReadyReport(is_ready=False, reason="the queue is full")
        for model in self._required_models:
            if model in admission.draining_models:
                return ReadyReport(is_ready=False, reason=f"model {model} is draining")
            report = self._report(self._manager.plans[model])
            if report.phase is ModelPhase.READY:
                self._were_ready.add(model)
            elif not (report.phase is ModelPhase.UNLOADED and model in self._were_ready):
                # One that has left to make room comes back with the next request.
                detail = f": {report.short_detail}" if report.short_detail else ""
                return ReadyReport(
                    is_ready=False, reason=f"model {model} is {report.phase.value}{detail}"
                )
        return ReadyReport(is_ready=True)

    def status(self) -> StatusReport:
        """Everything known about engines, models and load."""
        caches, ready = self._find_caches(), self.ready()
        return StatusReport(
            health=self.health(),
            is_ready=ready.is_ready,
            not_ready_because=ready.reason,
            engines=self._engines,
            models=tuple(
                _with_cache(self._report(plan), caches) for plan in self._manager.plans.values()
            ),
            default_model=self._default_model,
            num_running=self._admission.num_running,
            num_waiting=self._admission.num_waiting,
            is_draining=self._admission.is_draining,
            requests_per_second=self._admission.find_rate(),
            alerts=self._find_alerts(),
            tuner=None if self._tuner is None else self._tuner.report(max_decisions=1),
        )

    def _reasons(self, reports: Sequence[ModelReport]) -> list[str]:
        reasons = [
            f"model {report.name} is {report.phase.value}: {report.short_detail}"
            for report in reports
            if report.phase in {ModelPhase.RESTARTING, ModelPhase.FAILED, ModelPhase.STUCK}
        ]
        reasons += [
            f"model {report.name} runs on {report.engine} in place of {report.wanted_engine}:"
            f" {report.fallback_reason}"
            for report in reports
            if report.wanted_engine and report.phase is ModelPhase.READY
        ]
        reasons += [
            f"the stand-in of model {report.name} is {report.stand_in.phase.value}:"
            f" {report.stand_in.detail.partition(chr(10))[0]}"
            for report in reports
            if report.stand_in is not None
            and report.stand_in.phase in {ModelPhase.RESTARTING, ModelPhase.FAILED}
        ]
        reasons += [
            f"model {report.name}: {trouble}"
            for report in reports
            if report.phase is ModelPhase.READY
            and (remote := self._manager.find_remote(report.name)) is not None
            for trouble in remote.troubles
        ]
        reasons += [one for report in reports for one in find_replica_trouble(report)]
        reasons += [f"model {report.name} is draining" for report in reports if report.is_draining]
        places = self._manager.places
        reasons += [f"GPU {gpu} {fault}" for gpu, fault in places.find_failed().items()]
        reasons += [
            f"model {report.name} {report.lesser_place}"
            for report in reports
            if report.lesser_place and report.phase is ModelPhase.READY
        ]
        if (failure := self._find_store_failure()) is not None:
            reasons.append(f"no session or document can be stored: {failure}")
        if self._admission.is_draining:
            reasons.append("draining")
        return reasons

    def _report(self, plan: ModelPlan) -> ModelReport:
        supervisor = self._manager.find_supervisor(plan.name)
        remote = self._manager.find_remote(plan.name)
        report = ModelReport(
            name=plan.name,
            task=plan.task,
            aliases=plan.aliases,
            source=plan.source,
            phase=ModelPhase.UNLOADED,
            is_draining=plan.name in self._admission.draining_models,
            scaling=self._scaling.report(plan.name) if self._scaling is not None else None,
        )
        if remote is not None:
            return self._report_remote(report, remote)
        replicas = self._manager.find_replicas(plan.name)
        if supervisor is None or replicas is None:
            return report
        worker, fallback = supervisor.worker, supervisor.fallback
        facts = worker.facts if worker else None
        stalled_s = worker.stalled_s if worker else None
        is_stuck = stalled_s is not None and stalled_s > plan.watchdog_timeout_s * _STUCK_SHARE
        phase, detail = tell_phase(supervisor)
        if is_stuck:
            phase, detail = ModelPhase.STUCK, f"no step for {stalled_s:.0f} s"
        return msgspec.structs.replace(
            tell_replicas(report, replicas),
            phase=phase,
            engine=supervisor.engine,
            detail=detail,
            seconds_without_step=stalled_s,
            wanted_engine=fallback.wanted if fallback else None,
            fallback_reason=fallback.reason.partition("\n")[0] if fallback else "",
            circuits={
                engine: circuit.state.value
                for engine, circuit in supervisor.ladder.circuit_by_engine.items()
            },
            dtype=facts.dtype if facts else None,
            device=facts.device if facts else None,
            context_length=facts.context_length if facts else None,
            dimensions=(facts.dimensions or None) if facts else None,
            num_running=self._admission.count_running(plan.name),
            num_waiting=self._admission.count_waiting(plan.name),
            worker_pid=worker.pid if worker else None,
            cache=worker.cache if worker else None,
            memory_bytes=self._manager.find_memory_bytes(plan.name),
            stand_in=self._report_stand_in(plan.name),
            lesser_place=self._manager.places.find_lesser(plan.name),
            **_tell_sharing(plan, worker),
        )

    def _report_remote(self, report: ModelReport, remote: RemoteFleet) -> ModelReport:
        return msgspec.structs.replace(
            report,
            phase=remote.phase,
            engine=ENGINE,
            detail=remote.detail,
            circuits={ENGINE: remote.circuit_state.value},
            endpoints=_tell_endpoints(remote),
            num_running=self._admission.count_running(report.name),
            num_waiting=self._admission.count_waiting(report.name),
        )

    def _report_stand_in(self, model: str) -> StandInReport | None:
        supervisor = self._manager.find_stand_in(model)
        if supervisor is None:
            return None
        worker = supervisor.worker
        return StandInReport(
            phase=supervisor.phase,
            engine=supervisor.engine,
            detail=supervisor.detail,
            dtype=worker.facts.dtype if worker else None,
            worker_pid=worker.pid if worker else None,
            memory_bytes=self._manager.find_memory_bytes(name_stand_in(model)),
        )


def _with_cache(report: ModelReport, seen: Mapping[tuple[str, str], CacheFigures]) -> ModelReport:
    """Add how its KV memory is used: as our own cache counts it, else as it has been seen."""
    if (cache := report.cache) is not None:
        known = CacheFigures(kv_use_ratio=cache.use_ratio, cache_hit_ratio=cache.hit_ratio)
    else:
        known = seen.get((report.name, report.engine or UNKNOWN), _UNSEEN)
    return msgspec.structs.replace(
        report, kv_use_ratio=known.kv_use_ratio, cache_hit_ratio=known.cache_hit_ratio
    )


def _tell_endpoints(fleet: RemoteFleet) -> tuple[EndpointReport, ...]:
    return tuple(
        EndpointReport(
            address=one.server.address.url,
            state=one.state,
            detail=one.server.detail if one.state == "failed" else "",
            circuit=one.server.circuit.state.value,
            num_running=one.num_requests,
            num_queued_tokens=one.queued.total,
            num_held_tokens=fleet.placing.count_held_tokens(one),
        )
        for one in fleet.endpoints
    )


def _tell_sharing(plan: ModelPlan, worker: Worker | None) -> dict[str, Any]:
    """Return what a report tells of how sequences share steps and memory."""
    if worker is None:
        return {"max_batch_size": plan.batcher.max_batch_size}
    in_force, kv_bytes = worker.orders.in_force, find_kv_bytes(worker)
    return {
        "max_batch_size": in_force.batcher.max_batch_size,
        "in_force": in_force,
        "kv_target_bytes": kv_bytes.target,
        "kv_actual_bytes": kv_bytes.actual,
    }
