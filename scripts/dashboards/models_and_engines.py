"""The dashboard of what runs the models: engines, batches, GPUs."""

from __future__ import annotations

from dashboards import panels
from dashboards.board import Row
from dashboards.panels import Query, lines, states
from dashboards.queries import OF_MODEL, mean, quantile, rate

_EACH_ENGINE = "{{model}} {{engine}}"
_EACH_REPLICA = "{{model}} {{replica}}"
_UP = {1: ("up", "green"), 0: ("down", "red")}
_CIRCUIT = {0: ("trusted", "green"), 1: ("tried again", "yellow"), 2: ("left alone", "red")}
_HEALTH = {1: ("healthy", "green"), 0: ("failed", "red")}


def rows() -> list[Row]:
    """Return the dashboard's rows."""
    return [
        Row("State", _state(), per_line=2),
        Row("Replicas", _replicas(), per_line=4),
        Row("Replicas that follow the load", _scaling(), per_line=3),
        Row("Events", _events(), per_line=3),
        Row("Steps", _steps(), per_line=3),
        Row("GPUs", [*_gpus(), *_places()], per_line=2),
    ]


def _state() -> list[panels.PanelBuilder]:
    return [
        states(
            "Engines",
            "Whether a worker of the engine runs the model. An unloaded model is down, too.",
            Query(f"max by (model, engine) (engine_up{{{OF_MODEL}}})", _EACH_ENGINE),
            _UP,
        ),
        states(
            "Circuits",
            "Whether an engine is trusted with the model. After a failure it is left alone for a "
            "while, then tried again.",
            Query(f"max by (model, engine) (engine_circuit_state{{{OF_MODEL}}})", _EACH_ENGINE),
            _CIRCUIT,
        ),
    ]


def _replicas() -> list[panels.PanelBuilder]:
    return [
        states(
            "Replicas",
            "Whether the worker of each replica runs.",
            Query(f"max by (model, replica) (replica_up{{{OF_MODEL}}})", _EACH_REPLICA),
            _UP,
        ),
        lines(
            "Queued tokens",
            "Tokens that each replica has still to compute. Far apart, something holds one back.",
            panels.COUNT,
            Query(f"sum by (model, replica) (replica_queued_tokens{{{OF_MODEL}}})", _EACH_REPLICA),
        ),
        lines(
            "KV memory",
            "Share of each replica's KV memory that running sequences use.",
            panels.RATIO,
            Query(
                f"max by (model, replica) (replica_kv_cache_usage_ratio{{{OF_MODEL}}})",
                _EACH_REPLICA,
            ),
        ),
        lines(
            "What chose the replica",
            "Requests a second by what decided. Little by prefix, and conversations do not stay.",
            panels.PER_SECOND,
            Query(rate("replica_requests_total", "model, rule"), "{{model}} {{rule}}"),
        ),
    ]


def _scaling() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Wanted and running",
            "Replicas that there should be, and those whose worker runs.",
            panels.COUNT,
            Query(
                f"max by (model) (autoscaling_wanted_replicas{{{OF_MODEL}}})", "{{model}} wanted"
            ),
            Query(f"sum by (model) (replica_up{{{OF_MODEL}}})", "{{model}} running"),
        ),
        lines(
            "Wait to begin",
            "How long requests wait for their first step: above the target, replicas are added.",
            panels.SECONDS,
            Query(f"max by (model) (autoscaling_wait_seconds{{{OF_MODEL}}})", "{{model}}"),
        ),
        lines(
            "Decisions",
            "Up, down, and held where more are needed and there is no room: a second.",
            panels.PER_SECOND,
            Query(
                rate("autoscaling_decisions_total", "model, direction"), "{{model}} {{direction}}"
            ),
        ),
    ]


def _events() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Restarts",
            "Starts of a worker after one that failed, a second.",
            panels.PER_SECOND,
            Query(rate("engine_restarts_total", "model, engine"), _EACH_ENGINE),
        ),
        lines(
            "Fallbacks",
            "Models that went to another engine, and requests that only another one could do.",
            panels.PER_SECOND,
            Query(
                rate("engine_fallbacks_total", "model, from_engine, to_engine"),
                "{{model}} {{from_engine}} to {{to_engine}}",
            ),
        ),
        lines(
            "Failovers",
            "Requests that went on with another worker after theirs was lost.",
            panels.PER_SECOND,
            Query(rate("request_failovers_total", "model"), "{{model}}"),
        ),
        lines(
            "Lifecycle",
            "Models loaded, down, restarting, unloaded: events a second.",
            panels.PER_SECOND,
            Query(
                rate("model_lifecycle_events_total", "model, event_type"),
                "{{model}} {{event_type}}",
            ),
        ),
        lines(
            "Load time",
            "Start of the worker to ready: mean of all loads since the server started.",
            panels.SECONDS,
            Query(_mean_of_all("model_load_seconds"), "{{model}}"),
        ),
        lines(
            "Engine time of a request, p95",
            "Admission to last token by engine.",
            panels.SECONDS,
            Query(quantile("inference_latency_seconds", 0.95, "model, engine"), _EACH_ENGINE),
        ),
    ]


def _steps() -> list[panels.PanelBuilder]:
    return [
        lines(
            "Batch size",
            "Sequences in a step.",
            panels.COUNT,
            Query(mean("batch_size", "model"), "mean {{model}}"),
            Query(quantile("batch_size", 0.95, "model"), "p95 {{model}}"),
        ),
        lines(
            "Step duration by phase, p95",
            "Prefill reads prompts, decode writes tokens, mixed does both, embed embeds.",
            panels.SECONDS,
            Query(quantile("step_duration_seconds", 0.95, "model, phase"), "{{model}} {{phase}}"),
        ),
        lines(
            "Time in steps by phase",
            "Seconds of stepping a second: what the engine is busy with. Near 1 it has no rest.",
            panels.RATIO,
            Query(rate("step_duration_seconds_sum", "model, phase"), "{{model}} {{phase}}"),
        ),
    ]


def _gpus() -> list[panels.PanelBuilder]:
    return [
        lines(
            "GPU memory",
            "Used, free and total.",
            panels.BYTES,
            Query("gpu_memory_used_bytes", "used {{instance}} {{gpu_id}}"),
            Query("gpu_memory_available_bytes", "available {{instance}} {{gpu_id}}"),
            Query("gpu_memory_total_bytes", "total {{instance}} {{gpu_id}}"),
        ),
        lines(
            "GPU use",
            "Share of time in which a kernel ran.",
            panels.PERCENT,
            Query("gpu_utilization_percent", "{{instance}} {{gpu_id}}"),
            max_value=100,
        ),
        lines(
            "GPU temperature",
            "GPUs slow down when they get too hot.",
            panels.CELSIUS,
            Query("gpu_temperature_celsius", "{{instance}} {{gpu_id}}"),
        ),
        states(
            "GPU health",
            "Failed: it cannot be read, or reports a failure.",
            Query("gpu_health_status", "{{instance}} {{gpu_id}}"),
            _HEALTH,
        ),
    ]


def _places() -> list[panels.PanelBuilder]:
    return [
        lines(
            "GPU power",
            "What each GPU draws.",
            panels.WATTS,
            Query("gpu_power_watts", "{{instance}} {{gpu_id}}"),
        ),
        lines(
            "GPUs of models",
            "On how many each model's workers are, how many workers lack the GPUs that they would"
            " have, and how many had to leave a failed one.",
            panels.COUNT,
            Query(f"sum by (model) (model_gpus{{{OF_MODEL}}})", "{{model}}"),
            Query(
                f"sum by (model) (model_workers_on_lesser_place{{{OF_MODEL}}})", "{{model}} lacking"
            ),
            Query(f"sum by (model) (gpu_worker_moves_total{{{OF_MODEL}}})", "{{model}} moved"),
        ),
    ]


def _mean_of_all(histogram: str) -> str:
    # Loads are rare: between two of them a rate is nothing divided by nothing.
    total = f"sum by (model) ({histogram}_sum{{{OF_MODEL}}})"
    return f"{total} / sum by (model) ({histogram}_count{{{OF_MODEL}}})"
