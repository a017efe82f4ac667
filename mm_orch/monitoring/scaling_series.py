"""The series of the autoscaler: what it decided, and on what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.core.scaling_events import SCALING_DIRECTIONS, ReplicasScaled, ScaledLoadRead

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.scaling_events import ScalingEvent


class ScalingSeries:
    """Those of a model are there from the first window on in which its replicas follow its load."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "autoscaling_decisions_total",
            "Decisions on the number of a model's replicas, by direction; held is one that there"
            " was no room for.",
            ("model", "direction"),
            registry=registry,
        )
        self._wanted = Gauge(
            "autoscaling_wanted_replicas",
            "Replicas that there should be.",
            ("model",),
            registry=registry,
        )
        self._wait = Gauge(
            "autoscaling_wait_seconds",
            "How long the model's requests wait to begin, of the last window of two seconds.",
            ("model",),
            registry=registry,
        )
        self._started: set[str] = set()

    def observe(self, event: ScalingEvent) -> None:
        """Take one fact."""
        if event.model not in self._started:
            # From the first window on, so that the first decision is an increase.
            self._started.add(event.model)
            for direction in SCALING_DIRECTIONS:
                self._decisions.labels(event.model, direction)
        match event:
            case ReplicasScaled(model=model, direction=direction):
                self._decisions.labels(model, direction).inc()
            case ScaledLoadRead(model=model):
                self._wanted.labels(model).set(event.num_wanted)
                self._wait.labels(model).set(event.wait_s)
