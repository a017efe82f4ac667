"""Days of requests with known troubles, made from a seed: what detectors are measured on."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.monitoring.alerts.figures import Figures, ModelFigures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

STEP_S = 10
WINDOW_S = 300
DAY_S = 86_400
NUM_STEPS = DAY_S // STEP_S
_STEPS_IN_WINDOW = WINDOW_S // STEP_S
_EVENT_EVERY_S = 3 * 3600
_FIRST_EVENT_S = 2 * 3600
_SIGMA = 0.6
_DRIFT = 0.35
_WANDER = 0.08
_WANDER_S = 600.0
_REQUESTS_PER_S = 2.0
_ERROR_RATIO = 0.005
_BURST_RATIO = 0.2
_SLOW_SHARE = 0.15
_QUIET_S = 2 * 3600
_QUIET_RATE = 0.03


class Kind(enum.Enum):
    """What a day has in it; the first two have no trouble, so every alert there is false."""

    DRIFT = "daily drift"
    QUIET = "quiet phases"
    SHIFT = "shift of level"
    SPIKE = "spike"
    TAIL = "slow tail"
    RAMP = "ramp"
    BURST = "error burst"


@dataclass(frozen=True, slots=True)
class Trouble:
    """From when to when something is wrong, in seconds; its factor on latencies."""

    begin_s: float
    end_s: float
    factor: float


_DURATION_S = {
    Kind.SHIFT: 1800.0,
    Kind.SPIKE: 180.0,
    Kind.TAIL: 420.0,
    Kind.RAMP: 2400.0,
    Kind.BURST: 300.0,
}
_FACTORS = {
    Kind.SHIFT: (1.7, 2.0, 3.0, 5.0),
    Kind.SPIKE: (3.0, 6.0, 10.0),
    Kind.TAIL: (6.0, 10.0),
    Kind.RAMP: (2.0, 3.0, 5.0),
    Kind.BURST: (1.0,),
}


class Day:
    """One model's requests of a day, with its troubles.

    Latencies are lognormal; their level follows a sine over the day and wanders a little about it,
    as the mix of prompts does; the rate of requests is least when the level is.

    Args:
        kind: what is in it.
        level_s: the median latency that all of this is about.
        seed: two days of the same seed are equal.
    """

    def __init__(self, kind: Kind, level_s: float, seed: int) -> None:
        self.kind = kind
        self._dice = np.random.default_rng([seed, list(Kind).index(kind), int(level_s * 1000)])
        self.troubles = tuple(self._draw_troubles())
        phase = self._dice.uniform(0, 2 * math.pi)
        self._times = np.arange(NUM_STEPS) * STEP_S
        wave = np.sin(2 * math.pi * self._times / DAY_S + phase)
        self._level = math.log(level_s) + _DRIFT * wave + self._wander()
        self._rate = _REQUESTS_PER_S * (1 + 0.5 * wave)
        if kind is Kind.QUIET:
            for begin_s in range(_FIRST_EVENT_S, DAY_S, 2 * _QUIET_S):
                is_quiet = (self._times >= begin_s) & (self._times < begin_s + _QUIET_S)
                # A quiet phase in two has a request now and then, the other has none.
                share = _QUIET_RATE * self._dice.integers(0, 2)
                self._rate = np.where(is_quiet, self._rate * share, self._rate)

    def figures(self) -> Iterator[tuple[float, Figures]]:
        """Yield each evaluation's time and the figures of the window that ends then."""
        steps = [self._step(number) for number in range(NUM_STEPS)]
        for number in range(NUM_STEPS):
            window = steps[max(0, number + 1 - _STEPS_IN_WINDOW) : number + 1]
            latencies = np.concatenate([latency for latency, _ in window])
            num_failed = sum(failed for _, failed in window)
            yield float(self._times[number]), Figures(models=(_summary(latencies, num_failed),))

    def _step(self, number: int) -> tuple[NDArray[np.float64], int]:
        time_s = float(self._times[number])
        num_requests = int(self._dice.poisson(self._rate[number] * STEP_S))
        trouble = next((one for one in self.troubles if one.begin_s <= time_s < one.end_s), None)
        is_burst = trouble is not None and self.kind is Kind.BURST
        share = _BURST_RATIO if is_burst else _ERROR_RATIO
        num_failed = int(self._dice.binomial(num_requests, share))
        noise = self._dice.normal(0, _SIGMA, num_requests - num_failed)
        factors = np.ones(len(noise))
        if trouble is not None:
            factors = self._factors(trouble, time_s, len(noise))
        return np.exp(self._level[number] + noise) * factors, num_failed

    def _factors(self, trouble: Trouble, time_s: float, count: int) -> NDArray[np.float64]:
        match self.kind:
            case Kind.TAIL:
                return np.where(self._dice.random(count) < _SLOW_SHARE, trouble.factor, 1.0)
            case Kind.RAMP:
                share = (time_s - trouble.begin_s) / (trouble.end_s - trouble.begin_s)
                return np.full(count, trouble.factor**share)
            case _:
                return np.full(count, trouble.factor)

    def _draw_troubles(self) -> Iterator[Trouble]:
        if self.kind not in _DURATION_S:
            return
        for earliest_s in range(_FIRST_EVENT_S, DAY_S - _EVENT_EVERY_S, _EVENT_EVERY_S):
            begin_s = earliest_s + self._dice.uniform(0, 1800)
            factor = float(self._dice.choice(_FACTORS[self.kind]))
            yield Trouble(begin_s, begin_s + _DURATION_S[self.kind], factor)

    def _wander(self) -> NDArray[np.float64]:
        """Return an autoregressive walk about zero."""
        keep = math.exp(-STEP_S / _WANDER_S)
        shocks = self._dice.normal(0, _WANDER * math.sqrt(1 - keep**2), NUM_STEPS)
        walk = np.empty(NUM_STEPS)
        value = 0.0
        for number, shock in enumerate(shocks):
            value = keep * value + shock
            walk[number] = value
        return walk


def _summary(latencies: NDArray[np.float64], num_failed: int) -> ModelFigures:
    has_any = len(latencies) > 0
    p50_s, p95_s = np.percentile(latencies, (50, 95)) if has_any else (None, None)
    return ModelFigures(
        model="m",
        engine="e",
        num_succeeded=len(latencies),
        num_failed=num_failed,
        latency_p50_s=None if p50_s is None else float(p50_s),
        latency_p95_s=None if p95_s is None else float(p95_s),
    )
