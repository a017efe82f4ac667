"""Which figures are beyond the fixed thresholds, and how gravely: a pure rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.monitoring.alerts.alert import (
    GPU_FAILED,
    HIGH_ERROR_RATE,
    HIGH_LATENCY,
    HIGH_MEMORY,
    LOW_THROUGHPUT,
    Breach,
    Identity,
    Severity,
)
from mm_orch.monitoring.alerts.figures import ANY_ENGINE, HOST

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from mm_orch.monitoring.alerts.figures import (
        Figures,
        MemoryFigures,
        ModelFigures,
        QueueFigures,
    )

# How many times its limit a figure has to be over, for a warning, an error, a critical alert.
_STEPS = (1.0, 2.0, 3.0)
_MEMORY_STEPS = (1.0, 1.05, 1.10)
# Weights' and kernels' workspaces come on top of what an engine reserves.
_OVER_RESERVED_PERCENT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The limits, in the configuration's units; None switches a kind off.

    Attributes:
        min_samples: requests that a share or a percentile must be made of to be judged.
        window_s: what the figures are taken over.
    """

    latency_threshold_ms: float | None = None
    error_rate_threshold: float | None = None
    memory_threshold_percent: float | None = None
    throughput_threshold_rps: float | None = None
    min_samples: int = 20
    window_s: float = 300.0


def find_breaches(
    figures: Figures, thresholds: Thresholds, firing: Container[Identity] = ()
) -> list[Breach]:
    """Return what is beyond the thresholds, at most one breach an identity.

    Args:
        figures: of one window.
        thresholds: the limits.
        firing: alerts that go on for as long as whatever ends is still beyond the limit: a model
            that dies of each request ends few of them, and is not well for that.
    """
    found: list[Breach | None] = []
    for model in figures.models:
        found += [
            _judge_latency(model, thresholds, firing),
            _judge_errors(model, thresholds, firing),
        ]
    found += [_judge_queue(queue, thresholds) for queue in figures.queues]
    found += [_judge_memory(figures.memory, thresholds), _judge_gpus(figures.fault_by_gpu)]
    return [breach for breach in found if breach is not None]


def severity_of(ratio: float, steps: Sequence[float] = _STEPS) -> Severity | None:
    """Return how grave it is to be at this many times the limit; None where it is within."""
    num_passed = sum(ratio > step for step in steps)
    return list(Severity)[num_passed - 1] if num_passed else None


def _judge_latency(
    model: ModelFigures, thresholds: Thresholds, firing: Container[Identity]
) -> Breach | None:
    identity = Identity(HIGH_LATENCY, model.model, model.engine)
    num_needed = 1 if identity in firing else thresholds.min_samples
    limit_ms, p95_s = thresholds.latency_threshold_ms, model.latency_p95_s
    if limit_ms is None or p95_s is None or model.num_succeeded < num_needed:
        return None
    severity = severity_of(_ratio(p95_s * 1000, limit_ms))
    return severity and Breach(
        identity=identity,
        severity=severity,
        message=f"95th percentile latency of {_name(model)} is {p95_s:.3g} s,"
        f" over {limit_ms / 1000:.3g} s",
        value=p95_s * 1000,
        limit=limit_ms,
    )


def _judge_errors(
    model: ModelFigures, thresholds: Thresholds, firing: Container[Identity]
) -> Breach | None:
    identity = Identity(HIGH_ERROR_RATE, model.model, model.engine)
    num_needed = 1 if identity in firing else max(1, thresholds.min_samples)
    limit = thresholds.error_rate_threshold
    num_judged = model.num_succeeded + model.num_failed
    if limit is None or num_judged < num_needed:
        return None
    share = model.num_failed / num_judged
    severity = severity_of(_ratio(share, limit))
    return severity and Breach(
        identity=identity,
        severity=severity,
        message=f"{model.num_failed} of {num_judged} requests to {_name(model)} failed"
        f" ({share:.1%}), over {limit:.1%}",
        value=share,
        limit=limit,
    )


def _name(model: ModelFigures) -> str:
    return model.model if model.engine == ANY_ENGINE else f"{model.model} on {model.engine}"


def _judge_queue(queue: QueueFigures, thresholds: Thresholds) -> Breach | None:
    limit = thresholds.throughput_threshold_rps
    if not limit or not queue.num_waiting or queue.waiting_s < _patience_s(limit, thresholds):
        return None
    severity = severity_of(_ratio(limit, queue.throughput_rps))
    return severity and Breach(
        identity=Identity(LOW_THROUGHPUT, queue.model),
        severity=severity,
        message=f"{queue.model} ends {queue.throughput_rps:.3g} requests per second while"
        f" {queue.num_waiting} wait, below {limit:.3g}",
        value=queue.throughput_rps,
        limit=limit,
    )


def _patience_s(limit_rps: float, thresholds: Thresholds) -> float:
    # In less time, a model at its limit would have ended too few requests to tell it from another.
    return min(thresholds.window_s, thresholds.min_samples / limit_rps)


def _judge_memory(places: Sequence[MemoryFigures], thresholds: Thresholds) -> Breach | None:
    """Judge the fullest place: the alert is the machine's, its message names every place."""
    limit = thresholds.memory_threshold_percent
    if limit is None or not places:
        return None
    fullest = max(places, key=lambda place: place.used_ratio / _memory_limit(place, limit))
    percent, highest = fullest.used_ratio * 100, _memory_limit(fullest, limit)
    severity = severity_of(_ratio(percent, highest), _MEMORY_STEPS)
    over = ", ".join(_describe_places(places, limit))
    return severity and Breach(
        identity=Identity(HIGH_MEMORY),
        severity=severity,
        message=f"memory in use is over {highest:.3g}%: {over}",
        value=percent,
        limit=highest,
    )


def _judge_gpus(fault_by_gpu: Mapping[str, str]) -> Breach | None:
    """State that GPUs have failed: the alert is the machine's, its message names each."""
    if not fault_by_gpu:
        return None
    return Breach(
        identity=Identity(GPU_FAILED),
        severity=Severity.CRITICAL,
        message="; ".join(f"GPU {gpu} {fault}" for gpu, fault in fault_by_gpu.items()),
        value=float(len(fault_by_gpu)),
        limit=0.0,
    )


def _memory_limit(place: MemoryFigures, limit: float) -> float:
    """Return the limit in percent: above what is reserved, which is full by design."""
    reserved = place.reserved_ratio
    return max(limit, 100 * reserved + _OVER_RESERVED_PERCENT) if reserved else limit


def _describe_places(places: Sequence[MemoryFigures], limit: float) -> Iterator[str]:
    for place in places:
        if place.used_ratio * 100 > _memory_limit(place, limit):
            name = place.place if place.place == HOST else f"GPU {place.place}"
            yield f"{name} {place.used_ratio:.1%}"


def _ratio(value: float, limit: float) -> float:
    """Return value over limit; over a limit of zero, anything is infinitely much."""
    if limit > 0:
        return value / limit
    return math.inf if value > 0 else 0.0
