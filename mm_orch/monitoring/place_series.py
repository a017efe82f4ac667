"""The series of which GPUs workers have, and of what failed GPUs cost them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.core.placement_events import ReplicaLeft, WorkerMoved, WorkerPlaced

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class PlaceSeries:
    """The series of a model's place appear with its first worker that is placed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._moves = Counter(
            "gpu_worker_moves_total",
            "Workers that were ended because a GPU of theirs had failed, to be placed elsewhere.",
            ("model",),
            registry=registry,
        )
        self._gpus = Gauge(
            "model_gpus",
            "GPUs that the model's workers were placed on, counted once for each worker.",
            ("model",),
            registry=registry,
        )
        self._lesser = Gauge(
            "model_workers_on_lesser_place",
            "Workers on fewer GPUs, another engine or the CPU for want of those they would have.",
            ("model",),
            registry=registry,
        )
        self._placed: dict[str, dict[int, WorkerPlaced]] = {}

    def observe(self, event: WorkerPlaced | WorkerMoved | ReplicaLeft) -> None:
        """Take one fact."""
        match event:
            case WorkerPlaced(model=model):
                self._placed.setdefault(model, {})[event.replica] = event
                self._moves.labels(model)
                self._count(model)
            case WorkerMoved(model=model):
                self._moves.labels(model).inc()
            case ReplicaLeft(model=model):
                if self._placed.get(model, {}).pop(event.replica, None) is not None:
                    self._count(model)

    def _count(self, model: str) -> None:
        placed = self._placed[model].values()
        self._gpus.labels(model).set(sum(len(one.gpu_ids) for one in placed))
        self._lesser.labels(model).set(sum(bool(one.lesser) for one in placed))
