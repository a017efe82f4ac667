from __future__ import annotations

from mm_orch.core.events import CacheUsed, CircuitChanged, StepCompleted, WorkerStateChanged
from mm_orch.core.placement_events import ReplicaLeft, RequestPlaced
from mm_orch.monitoring.prometheus import PrometheusObserver
from mm_orch.optimization.replicas.offers import Rule
from mm_orch.workers.messages import STAND_IN
from tests.unit.monitoring.test_prometheus import samples_of, value_of

BOTH = {"model": "m", "engine": "e"}


def up(observer: PrometheusObserver, replica: int, *, is_up: bool = True) -> None:
    observer.observe(WorkerStateChanged(**BOTH, is_up=is_up, replica=replica))


def test_an_engine_is_up_while_one_replica_is() -> None:
    observer = PrometheusObserver(["m"])
    up(observer, 0)
    up(observer, 1)
    up(observer, 0, is_up=False)

    assert value_of(observer, "engine_up", **BOTH) == 1
    assert value_of(observer, "replica_up", model="m", replica="0") == 0
    assert value_of(observer, "replica_up", model="m", replica="1") == 1
    up(observer, 1, is_up=False)
    assert value_of(observer, "engine_up", **BOTH) == 0


def test_the_worst_circuit_and_the_mean_use_are_told_of_the_model() -> None:
    observer = PrometheusObserver(["m"])
    for replica, state in enumerate(["closed", "open", "half_open"]):
        observer.observe(CircuitChanged(**BOTH, state=state, replica=replica))
        observer.observe(CacheUsed(**BOTH, use_ratio=replica / 4, replica=replica))

    assert value_of(observer, "engine_circuit_state", **BOTH) == 2
    assert value_of(observer, "kv_cache_usage_ratio", model="m") == 0.25
    assert value_of(observer, "replica_kv_cache_usage_ratio", model="m", replica="2") == 0.5


def test_a_replica_that_has_left_is_told_of_no_more() -> None:
    observer = PrometheusObserver(["m"])
    for replica in (0, 1):
        up(observer, replica)
        step = StepCompleted(
            **BOTH,
            phase="decode",
            batch_size=1,
            duration_s=0.1,
            replica=replica,
            num_queued_tokens=30,
        )
        observer.observe(step)
    observer.observe(CircuitChanged(**BOTH, state="open", replica=1))
    observer.observe(ReplicaLeft(model="m", replica=1))

    gauges = [
        sample.labels["replica"]
        for sample in samples_of(observer)
        if sample.name.startswith("replica_") and not sample.name.endswith("_total")
    ]
    assert set(gauges) == {"0"}
    assert value_of(observer, "replica_queued_tokens", model="m", replica="0") == 30
    observer.observe(CircuitChanged(**BOTH, state="closed", replica=0))
    assert value_of(observer, "engine_circuit_state", **BOTH) == 0
    observer.observe(ReplicaLeft(model="m", replica=0))
    assert value_of(observer, "engine_up", **BOTH) == 0


def test_requests_are_counted_by_what_chose_their_replica() -> None:
    observer = PrometheusObserver(["m"])
    up(observer, 0)
    for rule in ("load", "prefix", "prefix"):
        observer.observe(RequestPlaced(model="m", replica=0, rule=rule, num_queued_tokens=0))

    counted = {
        sample.labels["rule"]: sample.value
        for sample in samples_of(observer)
        if sample.name == "replica_requests_total"
    }
    assert counted.keys() == {rule.value for rule in Rule}
    assert counted == dict.fromkeys(counted, 0) | {"prefix": 2, "load": 1}


def test_a_stand_in_is_no_replica() -> None:
    observer = PrometheusObserver(["m"])
    up(observer, STAND_IN)
    observer.observe(CacheUsed(**BOTH, use_ratio=0.5, replica=STAND_IN))

    assert not [one for one in samples_of(observer) if "replica" in one.labels]
    assert value_of(observer, "engine_up", **BOTH) == 1
