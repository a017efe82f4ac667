"""Says how the replicas of a model are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.orchestration.reports import ReplicaReport
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.optimization.replica_set import Replica, ReplicaSet
    from mm_orch.optimization.supervisor import ModelSupervisor
    from mm_orch.orchestration.reports import ModelReport


def tell_replicas(report: ModelReport, replicas: ReplicaSet) -> ModelReport:
    """Add to a model's report what is to be told of its replicas, by number."""
    ordered = sorted(replicas.replicas, key=lambda one: one.number)
    return msgspec.structs.replace(
        report,
        replicas=tuple(_report(replicas, one) for one in ordered),
        num_wanted_replicas=replicas.num_wanted,
        replicas_detail=replicas.obstacle,
        num_restarts=sum(one.supervisor.num_restarts for one in ordered),
    )


def find_replica_trouble(report: ModelReport) -> Iterator[str]:
    """Yield what is wrong with single replicas of a model that answers all the same."""
    if report.phase is not ModelPhase.READY:
        return
    for one in report.replicas:
        if one.phase in {ModelPhase.RESTARTING, ModelPhase.FAILED} and not one.is_draining:
            reason = one.detail.partition("\n")[0]
            yield f"replica {one.number} of model {report.name} is {one.phase.value}: {reason}"
    if report.replicas_detail:
        yield (
            f"model {report.name} has {len(report.replicas)} of {report.num_wanted_replicas}"
            f" replicas: {report.replicas_detail}"
        )


def tell_phase(supervisor: ModelSupervisor) -> tuple[ModelPhase, str]:
    """Return a supervisor's phase and its detail, as requests would find them now."""
    worker = supervisor.worker
    if supervisor.phase is ModelPhase.READY and (worker is None or worker.is_dead):
        # Its requests know of it before its supervisor has drawn the conclusion.
        return ModelPhase.RESTARTING, "its worker has just ended"
    return supervisor.phase, supervisor.detail


def _report(replicas: ReplicaSet, replica: Replica) -> ReplicaReport:
    supervisor = replica.supervisor
    worker = supervisor.worker
    phase, detail = tell_phase(supervisor)
    cache = worker.cache if worker is not None else None
    return ReplicaReport(
        number=replica.number,
        phase=phase,
        engine=supervisor.engine,
        detail=detail,
        is_draining=replica.is_draining,
        worker_pid=worker.pid if worker is not None else None,
        num_restarts=supervisor.num_restarts,
        cores=replica.share.cores,
        gpus=worker.spec.gpus if worker is not None else (),
        num_running=worker.num_running if worker is not None else 0,
        num_queued_tokens=worker.queued.total if worker is not None else 0,
        num_held_tokens=replicas.count_held_tokens(replica),
        cache_hit_ratio=cache.hit_ratio if cache is not None else None,
    )
