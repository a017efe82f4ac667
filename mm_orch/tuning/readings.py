"""What one window says of the work and of the engine: data alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """What a decoding step takes: ``fixed_s + per_sequence_s * sequences``."""

    fixed_s: float
    per_sequence_s: float

    def step_s(self, batch_size: float) -> float:
        """Return how long a step of so many sequences takes."""
        return self.fixed_s + self.per_sequence_s * batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One window, over all models. A figure that nothing was measured for is None.

    Attributes:
        span_s: its length.
        num_arrived: requests that came, those that were refused included.
        num_succeeded: that ended well in it; the next two ended otherwise.
        tokens_per_s: generated, counted as they come.
        latency_p50_s: admission to end, of those that succeeded; p95 alike.
        queue_wait_p95_s: admission to first step.
        service_p95_s: first step to end.
        num_waiting: mean over the window, as ``num_running``.
        batch_size_mean: sequences in a step.
        busy_ratio: share of the time in which the busiest engine computed, 0 to 1.
        step_s: mean time of a step.
        step_costs: fitted to the window's decoding steps, where their sizes differed.
        cache_hit_ratio: prompt tokens that needed no computing, 0 to 1.
        kv_use_ratio: of the fullest engine's KV memory, 0 to 1.
        memory_use_ratio: of the machine's memory, 0 to 1.
    """

    span_s: float
    num_arrived: int = 0
    num_succeeded: int = 0
    num_failed: int = 0
    num_rejected: int = 0
    tokens_per_s: float = 0.0
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    ttft_p95_s: float | None = None
    queue_wait_p95_s: float | None = None
    service_p95_s: float | None = None
    num_waiting: float = 0.0
    num_running: float = 0.0
    batch_size_mean: float | None = None
    busy_ratio: float = 0.0
    step_s: float | None = None
    step_costs: StepCosts | None = None
    cache_hit_ratio: float | None = None
    kv_use_ratio: float | None = None
    memory_use_ratio: float | None = None

    @property
    def has_traffic(self) -> bool:
        """Whether anything came, ended or was under way."""
        return bool(self.num_arrived or self.num_succeeded or self.tokens_per_s)

    @property
    def arrivals_per_s(self) -> float:
        """Requests that came per second."""
        return self.num_arrived / self.span_s

    @property
    def concurrency(self) -> float:
        """Requests that were there at a time."""
        return self.num_running + self.num_waiting

    @property
    def error_ratio(self) -> float:
        """Failed of those that failed or succeeded, 0 to 1."""
        return self.num_failed / max(1, self.num_failed + self.num_succeeded)
