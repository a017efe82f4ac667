from __future__ import annotations

from prometheus_client import CollectorRegistry

from mm_orch.core.placement_events import ReplicaLeft, WorkerMoved, WorkerPlaced
from mm_orch.monitoring.place_series import PlaceSeries

NAMES = ("model_gpus", "model_workers_on_lesser_place", "gpu_worker_moves_total")


def placed(replica: int, *gpu_ids: str, lesser: str = "") -> WorkerPlaced:
    return WorkerPlaced(model="m", engine="e", replica=replica, gpu_ids=gpu_ids, lesser=lesser)


def test_gpus_and_lesser_places_are_those_of_the_workers_that_there_are() -> None:
    registry = CollectorRegistry()
    series = PlaceSeries(registry)

    def values() -> tuple[float | None, ...]:
        return tuple(registry.get_sample_value(name, {"model": "m"}) for name in NAMES)

    assert values() == (None, None, None)
    series.observe(placed(0, "0", "1"))
    series.observe(placed(1, "2", "3"))
    assert values() == (4, 0, 0)

    series.observe(WorkerMoved(model="m", replica=1, gpu_id="3", reason="is lost"))
    series.observe(placed(1, lesser="runs on the CPU"))
    assert values() == (2, 1, 1)

    series.observe(ReplicaLeft(model="m", replica=1))
    assert values() == (2, 0, 1)
    series.observe(ReplicaLeft(model="another", replica=0))
    assert registry.get_sample_value("model_gpus", {"model": "another"}) is None
