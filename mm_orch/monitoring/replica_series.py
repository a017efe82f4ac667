"""The series of a model's replicas, and what they come to together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.monitoring.place_series import PlaceSeries

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.events import CacheUsed, CircuitChanged, StepCompleted, WorkerStateChanged
    from mm_orch.core.placement_events import ReplicaLeft, RequestPlaced

_MODEL_REPLICA = ("model", "replica")
RULES = ("only", "session", "prefix", "load", "turn", "chance")


class ReplicaSeries:
    """Every series of a replica is there from when its worker is up, until it has left.

    Of a stand-in, whose number is below 0, there is none.

    Attributes:
        places: the series of the GPUs that they have.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "replica_up",
            "1 while the replica's worker runs, else 0.",
            _MODEL_REPLICA,
            registry=registry,
        )
        self._queued_tokens = Gauge(
            "replica_queued_tokens",
            "Tokens that the replica has still to compute for the requests that it has.",
            _MODEL_REPLICA,
            registry=registry,
        )
        self._kv_use_ratio = Gauge(
            "replica_kv_cache_usage_ratio",
            "Share of the replica's KV memory that running sequences use, 0 to 1.",
            _MODEL_REPLICA,
            registry=registry,
        )
        self._requests = Counter(
            "replica_requests_total",
            "Requests given to the replica, by what chose it.",
            (*_MODEL_REPLICA, "rule"),
            registry=registry,
        )
        self.places = PlaceSeries(registry)
        self._engine_by_up: dict[tuple[str, int], set[str]] = {}
        self._circuits: dict[tuple[str, str], dict[int, int]] = {}
        self._kv_uses: dict[str, dict[int, float]] = {}

    def observe_state(self, event: WorkerStateChanged) -> bool:
        """Take that a worker is up or down; return whether its engine is up in any replica."""
        engines = self._engine_by_up.setdefault((event.model, event.replica), set())
        if event.is_up:
            engines.add(event.engine)
        else:
            engines.discard(event.engine)
        if event.replica >= 0:
            self._start(event.model, event.replica)
            self._up.labels(event.model, str(event.replica)).set(1 if engines else 0)
            if not engines:
                self._queued_tokens.labels(event.model, str(event.replica)).set(0)
        return self._is_up(event.model, event.engine)

    def observe_circuit(self, event: CircuitChanged, state: int) -> int:
        """Take an engine's circuit in one replica; return the worst of all."""
        states = self._circuits.setdefault((event.model, event.engine), {})
        states[event.replica] = state
        return max(states.values())

    def observe_use(self, event: CacheUsed) -> float:
        """Take what a worker's memory holds; return the mean of all of the model's workers."""
        uses = self._kv_uses.setdefault(event.model, {})
        uses[event.replica] = event.use_ratio
        if event.replica >= 0:
            self._kv_use_ratio.labels(event.model, str(event.replica)).set(event.use_ratio)
        return sum(uses.values()) / len(uses)

    def observe_step(self, event: StepCompleted) -> None:
        """Take how much is still to be computed after a step."""
        if event.replica >= 0:
            queued = self._queued_tokens.labels(event.model, str(event.replica))
            queued.set(event.num_queued_tokens)

    def observe_placed(self, event: RequestPlaced) -> None:
        """Count a request that was given to a replica."""
        self._requests.labels(event.model, str(event.replica), event.rule).inc()

    def observe_left(self, event: ReplicaLeft) -> set[str]:
        """Forget a replica; return the engines that run in none of its model's any more."""
        self.places.observe(event)
        engines = self._engine_by_up.pop((event.model, event.replica), set())
        for (model, _), states in self._circuits.items():
            if model == event.model:
                states.pop(event.replica, None)
        self._kv_uses.get(event.model, {}).pop(event.replica, None)
        for gauge in (self._up, self._queued_tokens, self._kv_use_ratio):
            gauge.remove(event.model, str(event.replica))
        return {engine for engine in engines if not self._is_up(event.model, engine)}

    def _start(self, model: str, replica: int) -> None:
        for gauge in (self._queued_tokens, self._kv_use_ratio):
            gauge.labels(model, str(replica))
        for rule in RULES:
            self._requests.labels(model, str(replica), rule)

    def _is_up(self, model: str, engine: str) -> bool:
        return any(
            one == model and engine in engines for (one, _), engines in self._engine_by_up.items()
        )
