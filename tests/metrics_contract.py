"""The series that the server promises, each with its labels and what its values may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class PromisedSeries:
    """One row of the table.

    Attributes:
        low: least plausible value after a load: of a counter the sum, of a gauge the greatest of
            its values, of a histogram the mean.
        high: greatest plausible value, of the same.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    low: float
    high: float


_MODEL = ("model",)
_MODEL_ENGINE = ("model", "engine")
_MODEL_REPLICA = ("model", "replica")
_HTTP = ("route", "method", "status")
_GPU = ("gpu_id",)


def _rows(
    kind: Kind, labels: tuple[str, ...], bounds_by_name: dict[str, tuple[float, float]]
) -> list[PromisedSeries]:
    return [PromisedSeries(name, kind, labels, *bounds) for name, bounds in bounds_by_name.items()]


REQUESTS = [
    *_rows("counter", (*_MODEL_ENGINE, "status"), {"inference_requests_total": (10, 1e4)}),
    *_rows("counter", ("model", "reason"), {"requests_refused_total": (1, 1e4)}),
    *_rows(
        "histogram",
        _MODEL_ENGINE,
        {
            "inference_latency_seconds": (1e-4, 60),
            "time_to_first_token_seconds": (1e-4, 60),
            "inter_token_latency_seconds": (1e-6, 5),
            "queue_wait_seconds": (1e-6, 60),
        },
    ),
    *_rows(
        "counter",
        _MODEL_ENGINE,
        {
            "prompt_tokens_total": (1000, 1e7),
            "generation_tokens_total": (1000, 1e7),
            "cached_prompt_tokens_total": (16, 1e7),
        },
    ),
]
LOAD = [
    *_rows(
        "gauge",
        _MODEL,
        {
            "requests_running": (1, 64),
            "requests_waiting": (1, 64),
            "throughput_requests_per_second": (0.01, 1e4),
            "throughput_tokens_per_second": (1, 1e6),
        },
    ),
    *_rows("histogram", _MODEL, {"batch_size": (1, 64)}),
    *_rows("histogram", (*_MODEL_ENGINE, "phase"), {"step_duration_seconds": (1e-6, 10)}),
]
CACHE = [
    *_rows("gauge", _MODEL, {"kv_cache_hit_rate": (0.001, 1), "kv_cache_usage_ratio": (0.001, 1)}),
    *_rows("counter", _MODEL, {"kv_cache_evictions_total": (1, 1e6)}),
]
ENGINES = [
    *_rows("gauge", _MODEL_ENGINE, {"engine_up": (1, 1), "engine_circuit_state": (1, 2)}),
    *_rows("counter", ("model", "from_engine", "to_engine"), {"engine_fallbacks_total": (1, 100)}),
    *_rows("counter", _MODEL_ENGINE, {"engine_restarts_total": (1, 100)}),
    *_rows("counter", _MODEL, {"request_failovers_total": (1, 100)}),
    *_rows("counter", ("model", "event_type"), {"model_lifecycle_events_total": (2, 1000)}),
    *_rows("histogram", _MODEL, {"model_load_seconds": (0.01, 120)}),
    *_rows("counter", ("component", "error_type"), {"errors_total": (1, 1000)}),
    # Whether there is trouble to warn of is not this table's business.
    *_rows("counter", ("type", "severity"), {"alerts_total": (1, 1000)}),
]
REPLICAS = [
    *_rows("gauge", _MODEL_REPLICA, {"replica_up": (1, 1)}),
    *_rows("gauge", _MODEL_REPLICA, {"replica_queued_tokens": (1, 1e6)}),
    *_rows("gauge", _MODEL_REPLICA, {"replica_kv_cache_usage_ratio": (0.001, 1)}),
    *_rows("counter", (*_MODEL_REPLICA, "rule"), {"replica_requests_total": (10, 1e4)}),
]
# Of models whose replicas are a range alone.
SCALING = [
    *_rows("counter", ("model", "direction"), {"autoscaling_decisions_total": (0, 100)}),
    *_rows("gauge", _MODEL, {"autoscaling_wanted_replicas": (1, 64)}),
    *_rows("gauge", _MODEL, {"autoscaling_wait_seconds": (0, 600)}),
]
WORKFLOWS = [
    *_rows("counter", ("workflow", "status"), {"workflow_runs_total": (1, 100)}),
    *_rows("histogram", ("workflow",), {"workflow_duration_seconds": (1e-3, 60)}),
    *_rows("counter", ("workflow", "by"), {"routing_decisions_total": (1, 100)}),
]
MIND = [
    *_rows("gauge", (), {"mood_valence": (-1, 1), "mood_arousal": (-1, 1)}),
    *_rows("gauge", (), {"development_stage": (0, 3)}),
    *_rows("counter", ("rating",), {"feedback_total": (0, 100)}),
]
HTTP = [
    *_rows("counter", _HTTP, {"http_requests_total": (10, 1e5)}),
    *_rows("histogram", _HTTP, {"http_request_duration_seconds": (1e-4, 60)}),
    *_rows("gauge", _HTTP, {"http_requests_per_second": (0.01, 1e4)}),
]
HOST = _rows(
    "gauge",
    (),
    {
        "cpu_usage_percent": (0.1, 100),
        "memory_used_bytes": (1e8, 1e13),
        "memory_total_bytes": (1e9, 1e13),
        "system_uptime_seconds": (1, 3600),
    },
)
TUNER = [
    *_rows(
        "counter",
        ("parameter", "direction"),
        {"auto_tuning_decisions_total": (0, 100), "auto_tuning_rollbacks_total": (0, 100)},
    ),
    *_rows("counter", ("parameter", "p95"), {"auto_tuning_guard_steps_total": (0, 100)}),
    *_rows(
        "gauge",
        (),
        {
            "auto_tuning_batch_size": (4, 4),
            "auto_tuning_batch_timeout_ms": (0, 1000),
            "auto_tuning_cache_size_mb": (1, 1),
        },
    ),
]
GPUS = _rows(
    "gauge",
    _GPU,
    {
        "gpu_memory_used_bytes": (1e8, 1e12),
        "gpu_memory_available_bytes": (1e8, 1e12),
        "gpu_memory_total_bytes": (1e9, 1e12),
        "gpu_utilization_percent": (1, 100),
        "gpu_temperature_celsius": (10, 110),
        "gpu_power_watts": (1, 2000),
        "gpu_health_status": (1, 1),
    },
)

PLACES = [
    *_rows("gauge", _MODEL, {"model_gpus": (0, 1024), "model_workers_on_lesser_place": (0, 64)}),
    *_rows("counter", _MODEL, {"gpu_worker_moves_total": (0, 100)}),
]

PROMISED: Sequence[PromisedSeries] = [
    *REQUESTS,
    *LOAD,
    *CACHE,
    *ENGINES,
    *REPLICAS,
    *WORKFLOWS,
    *MIND,
    *HTTP,
    *HOST,
    *TUNER,
    *GPUS,
    *PLACES,
]


def sample_names(series: PromisedSeries) -> set[str]:
    """Return the names under which a series is scraped."""
    if series.kind == "histogram":
        return {f"{series.name}_{part}" for part in ("bucket", "count", "sum")}
    return {series.name}
