"""The series of the tuner: what it decided, and what is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.core.tuning_events import (
    GUARDED_OPTIONS,
    TUNED_OPTIONS,
    GuardStepTold,
    TunedValuesRead,
    TuningDecided,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.tuning_events import TuningEvent


class TuningSeries:
    """Every series; made with the first fact, so that a server without a tuner states none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "auto_tuning_decisions_total",
            "Decisions of the tuner, by option and direction.",
            ("parameter", "direction"),
            registry=registry,
        )
        self._rollbacks = Counter(
            "auto_tuning_rollbacks_total",
            "Decisions of the tuner that took back what it had tried.",
            ("parameter", "direction"),
            registry=registry,
        )
        self._guard_steps = Counter(
            "auto_tuning_guard_steps_total",
            "Steps of the tuner to keep its target, by option and by what p95 was in the first"
            " window that tells of them.",
            ("parameter", "p95"),
            registry=registry,
        )
        # From the first scrape on, so that the first decision is an increase.
        for parameter in TUNED_OPTIONS:
            for direction in ("up", "down"):
                self._decisions.labels(parameter, direction)
                self._rollbacks.labels(parameter, direction)
        for parameter in GUARDED_OPTIONS:
            for side in ("within", "over"):
                self._guard_steps.labels(parameter, side)
        self._batch_size = Gauge(
            "auto_tuning_batch_size", "max_batch_size in force.", registry=registry
        )
        self._timeout = Gauge(
            "auto_tuning_batch_timeout_ms", "batch_timeout_ms in force.", registry=registry
        )
        self._cache_size = Gauge(
            "auto_tuning_cache_size_mb", "The cache's max_memory_mb in force.", registry=registry
        )

    def observe(self, event: TuningEvent) -> None:
        """Take one fact."""
        match event:
            case TuningDecided(parameter=parameter, direction=direction):
                self._decisions.labels(parameter, direction).inc()
                if event.is_rollback:
                    self._rollbacks.labels(parameter, direction).inc()
            case GuardStepTold():
                side = "within" if event.is_kept else "over"
                self._guard_steps.labels(event.parameter, side).inc()
            case TunedValuesRead():
                self._batch_size.set(event.batch_size)
                self._timeout.set(event.batch_timeout_ms)
                self._cache_size.set(event.cache_size_mb)
