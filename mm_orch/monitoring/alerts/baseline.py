"""What latency is usual for a model, learned as it goes, and whether it has left that.

For each model and engine the last readings of two figures are kept, as logarithms: latency is
skewed, and people mean "twice as slow". What is usual is their median; how much they vary is their
median absolute deviation or, where that is more, what chance alone makes of a percentile of so few
requests. A departure is worth an alert when it is larger than both that variation and a factor
that people would care about, in several evaluations in a row.

A median does not move for a few outliers, and moves wholly once half of the memory is of the new
level: a lasting shift is told of for that long, then it is what is usual.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.monitoring.alerts.alert import ANOMALY, Breach, Identity
from mm_orch.monitoring.alerts.thresholds import severity_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.monitoring.alerts.figures import Figures, ModelFigures

_MAD_TO_SIGMA = 1.4826
# Of a lognormal: log(p95 / p50) / sigma, and the standard error of each percentile's logarithm in
# sigmas, for one request.
_P95_SIGMAS = 1.645
_P50_ERROR_SIGMAS = 1.253
_P95_ERROR_SIGMAS = 2.113
_MAX_KEYS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSettings:
    """How the baseline learns and judges.

    Attributes:
        learn_every_s: seconds between two readings that are remembered.
        num_remembered: how many; half of them is how long a lasting shift is told of.
        num_warm_up: readings before anything is judged.
        num_sigmas: of the usual variation, that are no departure yet.
        min_factor: slower by less than this is none either.
        num_in_a_row: evaluations that have to agree.
        min_samples: requests that a reading needs.
    """

    learn_every_s: float = 60.0
    num_remembered: int = 60
    num_warm_up: int = 15
    num_sigmas: float = 3.0
    min_factor: float = 1.5
    num_in_a_row: int = 3
    min_samples: int = 20


@dataclass(frozen=True, slots=True)
class _Reading:
    """Logarithms of the two percentiles in seconds."""

    p50: float
    p95: float

    @property
    def sigma(self) -> float:
        """The spread of single requests' logarithms."""
        return max(0.0, self.p95 - self.p50) / _P95_SIGMAS


class Baselines:
    """The baselines of every model and engine, bounded in number."""

    def __init__(self, settings: BaselineSettings | None = None) -> None:
        self._settings = settings or BaselineSettings()
        self._baseline_by_key: dict[tuple[str, str], _Baseline] = {}

    def find_departures(self, figures: Figures, now_s: float) -> list[Breach]:
        """Learn from one evaluation's figures and return what departs from what is usual."""
        found = []
        for model in figures.models:
            key = (model.model, model.engine)
            if key not in self._baseline_by_key and len(self._baseline_by_key) < _MAX_KEYS:
                self._baseline_by_key[key] = _Baseline(self._settings)
            baseline = self._baseline_by_key.get(key)
            breach = baseline and baseline.take(model, now_s)
            if breach:
                found.append(breach)
        return found


class _Baseline:
    """What is usual for one model on one engine."""

    def __init__(self, settings: BaselineSettings) -> None:
        self._settings = settings
        self._readings: deque[_Reading] = deque(maxlen=settings.num_remembered)
        self._learned_at_s = -math.inf
        self._num_departures = 0

    def take(self, model: ModelFigures, now_s: float) -> Breach | None:
        """Judge the figures, then learn from them; few requests neither teach nor alarm."""
        p50_s, p95_s = model.latency_p50_s, model.latency_p95_s
        if not p50_s or not p95_s or model.num_succeeded < max(1, self._settings.min_samples):
            self._num_departures = 0
            return None
        reading = _Reading(math.log(p50_s), math.log(p95_s))
        breach = self._judge(model, reading)
        self._num_departures = self._num_departures + 1 if breach else 0
        if now_s - self._learned_at_s >= self._settings.learn_every_s:
            self._readings.append(reading)
            self._learned_at_s = now_s
        return breach if self._num_departures >= self._settings.num_in_a_row else None

    def _judge(self, model: ModelFigures, reading: _Reading) -> Breach | None:
        if len(self._readings) < self._settings.num_warm_up:
            return None
        sigma = statistics.median(one.sigma for one in self._readings)
        chance = sigma / math.sqrt(model.num_succeeded)
        p50_limit = self._limit([one.p50 for one in self._readings], chance * _P50_ERROR_SIGMAS)
        p95_limit = self._limit([one.p95 for one in self._readings], chance * _P95_ERROR_SIGMAS)
        excess, value, limit, name = max(
            (reading.p50 - p50_limit, reading.p50, p50_limit, "median"),
            (reading.p95 - p95_limit, reading.p95, p95_limit, "95th percentile"),
        )
        severity = severity_of(math.exp(excess))
        return severity and Breach(
            identity=Identity(ANOMALY, model.model, model.engine),
            severity=severity,
            message=f"{name} latency of {model.model} on {model.engine} is {math.exp(value):.3g} s;"
            f" up to {math.exp(limit):.3g} s would be usual",
            value=math.exp(value),
            limit=math.exp(limit),
        )

    def _limit(self, readings: Sequence[float], chance: float) -> float:
        center = statistics.median(readings)
        deviation = _MAD_TO_SIGMA * statistics.median(abs(one - center) for one in readings)
        variation = max(deviation, chance)
        factor = math.log(self._settings.min_factor)
        return center + max(factor, self._settings.num_sigmas * variation)
