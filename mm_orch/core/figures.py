"""The figures that monitoring reckons and the JSON API shows: shapes alone.

Durations are in seconds; a figure that nothing has been measured for is None.
"""

from __future__ import annotations

import msgspec

UNKNOWN = "unknown"
"""A model that is not configured, and the engine of what was refused before it had one."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """How the measured values of one kind are spread; quantiles are estimates (see the sketch)."""

    count: int
    mean: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float


class RequestFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the requests of a sliding window went.

    Attributes:
        latency: admission to end, of requests that succeeded: others may end at any time.
        time_to_first_token: admission to first token.
        queue_wait: admission to first step.
        num_requests: that ended, in whatever way.
        num_failed: of them, by an error or by a timeout.
        num_rejected: refused, which says nothing of the engine.
        num_cancelled: given up by their clients.
        num_prompt_tokens: of requests that reached an engine and ended, as the next two.
        error_rate: failed of those that succeeded or failed, 0 to 1.
        throughput_requests_per_second: of those that succeeded.
        cache_hit_ratio: prompt tokens that needed no computing of all, 0 to 1.
    """

    latency: Distribution | None
    time_to_first_token: Distribution | None
    queue_wait: Distribution | None
    num_requests: int
    num_failed: int
    num_rejected: int
    num_cancelled: int
    num_prompt_tokens: int
    num_generated_tokens: int
    num_cached_tokens: int
    error_rate: float
    throughput_requests_per_second: float
    throughput_tokens_per_second: float
    cache_hit_ratio: float | None


class ModelFigures(RequestFigures, frozen=True, kw_only=True):
    """The requests of one model on one engine, and what its workers do.

    Attributes:
        throughput_tokens_per_second: counted as they come, so that long answers show at once.
        inter_token_latency: between successive tokens of one sequence.
        step_duration: of one advance of a batch.
        batch_size_mean: sequences in a step.
        requests_running: of the model, over all its engines, now; as the next one.
        kv_use_ratio: of the blocks of the KV memory, 0 to 1, now.
    """

    model: str
    engine: str
    inter_token_latency: Distribution | None
    step_duration: Distribution | None
    batch_size_mean: float | None
    requests_running: int
    requests_waiting: int
    kv_use_ratio: float | None


class CacheFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's KV memory on one engine is good for; see :class:`ModelFigures`."""

    kv_use_ratio: float | None
    cache_hit_ratio: float | None


class OperationFigures(RequestFigures, frozen=True, kw_only=True):
    """The requests of one operation, over all models. Tokens are counted when they end."""

    operation: str


class WorkflowFigures(RequestFigures, frozen=True, kw_only=True):
    """The requests of one workflow. Tokens are counted when they end."""

    workflow: str


class TrendFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A reading over the sliding window, and the last one."""

    last: float
    mean: float
    min: float
    max: float


class GpuFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU over the sliding window; its health, fault and total are of the last reading.

    A trend is None when the GPU could not be read in the whole window, or does not offer it.
    """

    gpu_id: str
    is_healthy: bool
    memory_total_bytes: int
    memory_used_bytes: TrendFigures | None
    utilization_percent: TrendFigures | None
    temperature_celsius: TrendFigures | None
    fault: str = ""


class ResourceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The machine over the sliding window; in a container, what the container may use.

    Where it is read seldom, over the time of two readings.
    """

    cpu_percent: TrendFigures | None = None
    memory_used_bytes: TrendFigures | None = None
    memory_total_bytes: int | None = None
    gpus: tuple[GpuFigures, ...] = ()


class IntervalFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one interval of a chart holds, of one model or of all.

    Attributes:
        requests_per_second: that succeeded.
        failures_per_second: that ended by an error or a timeout.
        tokens_per_second: generated, counted as they come.
        requests_running: at the interval's end; as the next one.
    """

    requests_per_second: float = 0.0
    failures_per_second: float = 0.0
    tokens_per_second: float = 0.0
    time_to_first_token_p50: float | None = None
    time_to_first_token_p95: float | None = None
    batch_size_mean: float | None = None
    cache_hit_ratio: float | None = None
    requests_running: int = 0
    requests_waiting: int = 0


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One interval of the charts.

    Attributes:
        at: its end, in seconds since 1970.
        models: by name; one that was idle is left out.
        cpu_percent: as last read; as the next one.
    """

    at: float
    total: IntervalFigures
    models: dict[str, IntervalFigures]
    cpu_percent: float | None = None
    memory_used_bytes: int | None = None


class HistoryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The charts' points, oldest first, each ``interval_seconds`` after the one before it."""

    interval_seconds: float
    points: tuple[HistoryPoint, ...]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as ``GET /api/metrics`` answers."""

    window_seconds: float
    models: tuple[ModelFigures, ...]
    operations: tuple[OperationFigures, ...]
    workflows: tuple[WorkflowFigures, ...]
    resources: ResourceFigures
    history: HistoryFigures
