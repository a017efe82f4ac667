"""Made up answers for the console: measurements, alerts, and requests slow in each way."""

from __future__ import annotations

import math
from typing import Any

MODEL = "smollm2-135m"
_BEGIN = 1_790_000_000
_STEP_S = 5
_LOAD_KEYS = (
    "requests_per_second",
    "tokens_per_second",
    "time_to_first_token_p50",
    "time_to_first_token_p95",
    "batch_size_mean",
    "cache_hit_ratio",
    "requests_running",
    "requests_waiting",
)


def metrics() -> dict[str, Any]:
    """Return what /api/metrics answers after five minutes of waxing and waning load."""
    return {
        "window_seconds": 300,
        "models": [_measured(MODEL, "openvino", 1.0), _measured("minilm", "onnx", 0.1)],
        "operations": [],
        "workflows": [],
        "resources": {
            "cpu_percent": _trend(62),
            "memory_used_bytes": _trend(6_100_000_000),
            "memory_total_bytes": 16 * 2**30,
            "gpus": [
                {
                    "gpu_id": "0",
                    "is_healthy": True,
                    "memory_total_bytes": 24 * 2**30,
                    "memory_used_bytes": _trend(18 * 2**30),
                    "utilization_percent": _trend(81),
                    "temperature_celsius": _trend(64),
                }
            ],
        },
        "history": {
            "interval_seconds": _STEP_S,
            "points": [_point(number) for number in range(60)],
        },
    }


def tuner() -> dict[str, Any]:
    """Return what /admin/tuner answers with a change that was kept and one that was not."""
    key = "optimization.batcher.max_batch_size"
    figures = {
        "num_windows": 3,
        "tokens_per_second": 169.0,
        "latency_p95_s": 2.5,
        "time_to_first_token_p95_s": 0.9,
        "requests_waiting": 3.4,
        "requests_rejected": 54.0,
        "step_s": 0.021,
        "cache_hit_ratio": 0.3,
    }
    faster = {**figures, "tokens_per_second": 246.0, "latency_p95_s": 2.9}
    change = {
        "parameter": "max_batch_size",
        "old_values": {key: 4},
        "new_values": {key: 8},
        "before": figures,
    }
    return {
        "target_p95_ms": 6000.0,
        "window_seconds": 60,
        "max_windows": 8,
        "values": {
            key: 16,
            "optimization.batcher.batch_timeout_ms": 50,
            "optimization.cache.max_memory_mb": 4096,
        },
        "on_trial": {key: 8},
        "switched_off": ["optimization.batcher.batch_timeout_ms"],
        "left_alone": ["optimization.cache.max_memory_mb"],
        "decisions": [
            {
                **change,
                "at": "2026-09-21T14:11:00+00:00",
                "kind": "keep",
                "direction": "none",
                "rationale": "it helps: +46% over 2 windows, more than noise explains",
                "after": faster,
            },
            {
                **change,
                "at": "2026-09-21T14:10:00+00:00",
                "kind": "try",
                "direction": "up",
                "rationale": "the batch is full while requests wait: max_batch_size 4 -> 8",
                "after": None,
            },
        ],
    }


def alerts() -> dict[str, Any]:
    """Return what /admin/alerts answers with one that fires."""
    firing = {
        "alert_type": "high_latency",
        "severity": "error",
        "model": MODEL,
        "engine": "openvino",
        "message": "95 % of the answers of smollm2-135m took up to 12.4 s; the limit is 5 s.",
        "value": 12_400.0,
        "limit": 5000.0,
    }
    change = {key: value for key, value in firing.items() if key not in {"value", "limit"}}
    memory = {
        **change,
        "alert_type": "high_memory",
        "severity": "warning",
        "model": "",
        "engine": "",
        "message": "The machine uses 92 % of its memory; the limit is 90 %.",
    }
    sent = {"num_dropped": 0, "num_waiting": 0}
    return {
        "firing": [{**firing, "since": "2026-09-21T14:10:00+00:00"}],
        "history": [
            {**change, "status": "firing", "at": "2026-09-21T14:10:00+00:00"},
            {**memory, "status": "resolved", "at": "2026-09-21T13:52:30+00:00"},
            {**memory, "status": "firing", "at": "2026-09-21T13:41:00+00:00"},
        ],
        "destinations": [
            {**sent, "name": "log", "num_sent": 3, "num_failed": 0, "problem": ""},
            {**sent, "name": "webhook", "num_sent": 1, "num_failed": 2, "problem": "HTTP 503"},
        ],
    }


def requests() -> dict[str, Any]:
    """Return what /admin/requests answers: one slow for each reason, and quick ones."""
    slow = [
        queued(),
        _request("req-prefill", 2.6, queue=0.05, first=2.15, prompt=1500, tokens=24),
        failed_over(),
        _request("req-batch", 9.4, queue=0.1, first=0.4, tokens=96, batch=32),
        _never_ran(),
    ]
    quick = [
        _request(f"req-quick-{number}", 0.3 + number / 40, queue=0.01, first=0.05, tokens=40)
        for number in range(12)
    ]
    return {"requests": [*slow, *quick]}


def queued() -> dict[str, Any]:
    """Return a request that waited behind others for most of its time."""
    return {
        **_request("req-queued", 4.1, queue=3.2, first=3.4, tokens=40, batch=8),
        "num_running_before": 8,
        "num_waiting_before": 12,
    }


def failed_over() -> dict[str, Any]:
    """Return a request whose engine was lost on the way."""
    request = _request("req-failover", 4.6, queue=0.1, first=0.3, tokens=31)
    [lost] = request["attempts"]
    lost |= {"ended_s": 1.2, "error": "the worker has ended with signal 9"}
    after = _attempt("pytorch", 1.3, started=2.4, first=3.0, ended=4.6, tokens=60)
    return {
        **request,
        "engine": "pytorch",
        "num_generated_tokens": 91,
        "attempts": [lost, after],
    }


def _never_ran() -> dict[str, Any]:
    request = _request("req-timeout", 30.0, queue=0.0, first=0.0, tokens=0)
    return {
        **request,
        "status": "timeout",
        "error_type": "DeadlineError",
        "error_message": "The request was not done within 30 s.",
        "queue_wait_s": None,
        "ttft_s": None,
        "finish_reasons": [],
        "num_running_before": 8,
        "num_waiting_before": 40,
        "attempts": [],
    }


def _request(
    name: str,
    total: float,
    *,
    queue: float,
    first: float,
    prompt: int = 46,
    tokens: int = 20,
    batch: int = 1,
) -> dict[str, Any]:
    attempt = _attempt(
        "openvino", 0.01, started=queue, first=first, ended=total, tokens=tokens, batch=batch
    )
    return {
        "request_id": name,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "at": "2026-09-21T14:12:31.250000+00:00",
        "model": MODEL,
        "engine": "openvino",
        "operation": "chat",
        "status": "success",
        "error_type": None,
        "error_message": None,
        "num_prompt_tokens": prompt,
        "num_cached_tokens": 0,
        "num_generated_tokens": tokens,
        "finish_reasons": ["stop"],
        "queue_wait_s": queue,
        "ttft_s": first,
        "total_s": total,
        "num_waiting_before": 0,
        "num_running_before": 0,
        "routed_s": 0.004,
        "gate_wait_s": 0.0,
        "attempts": [attempt],
    }


def _attempt(
    engine: str,
    submitted: float,
    *,
    started: float,
    first: float,
    ended: float,
    tokens: int,
    batch: int = 1,
) -> dict[str, Any]:
    return {
        "engine": engine,
        "submitted_s": submitted,
        "started_s": started,
        "first_token_s": first,
        "ended_s": ended,
        "num_tokens": tokens,
        "num_cached_tokens": 0,
        "max_batch_size": batch,
        "error": "",
    }


def _measured(model: str, engine: str, scale: float) -> dict[str, Any]:
    def spread(mean: float) -> dict[str, float]:
        return {
            "count": 1240,
            "mean": mean,
            "min": mean / 4,
            "max": mean * 5,
            "p50": mean * 0.9,
            "p95": mean * 2.2,
            "p99": mean * 3.8,
        }

    return {
        "model": model,
        "engine": engine,
        "latency": spread(2.4 * scale),
        "time_to_first_token": spread(0.21 * scale),
        "inter_token_latency": spread(0.017 * scale),
        "queue_wait": spread(0.09 * scale),
        "step_duration": None,
        "throughput_requests_per_second": 4.1,
        "throughput_tokens_per_second": 310.5,
        "error_rate": 0.004,
        "num_requests": 1240,
        "num_failed": 5,
        "num_rejected": 0,
        "num_cancelled": 2,
        "num_prompt_tokens": 80_000,
        "num_generated_tokens": 93_000,
        "num_cached_tokens": 49_600,
        "requests_running": 6,
        "requests_waiting": 1,
        "cache_hit_ratio": 0.62,
        "kv_use_ratio": 0.37,
        "batch_size_mean": 5.4,
    }


def _trend(last: float) -> dict[str, float]:
    return {"last": last, "mean": last * 0.9, "min": last / 2, "max": last * 1.02}


def _point(number: int) -> dict[str, Any]:
    wave = 1 + math.sin(number / 7)
    ripple = 1 + 0.2 * math.sin(number * 1.9)
    # At first nothing had happened.
    is_quiet = number < 6
    values = (
        2.2 * wave * ripple,
        170 * wave * ripple,
        None if is_quiet else 0.12 + 0.05 * wave * ripple,
        None if is_quiet else 0.3 + 0.25 * wave * ripple,
        None if is_quiet else 1 + 4 * wave,
        None if is_quiet else 0.4 + 0.15 * wave,
        round(4 * wave),
        max(0, round(6 * wave - 7)),
    )
    load = dict(zip(_LOAD_KEYS, values, strict=True))
    return {
        "at": _BEGIN + number * _STEP_S,
        "total": {**load, "failures_per_second": 0.4 if number in {31, 32, 33} else 0.0},
        "memory_used_bytes": round(5.6e9 + 4e8 * wave),
        "cpu_percent": 8 + 40 * wave,
        "models": {MODEL: load},
    }
