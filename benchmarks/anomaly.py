"""Which troubles fixed thresholds and the learned baseline find, and how often they cry wolf.

usage: python -m benchmarks.anomaly [--seeds N] [--first-seed N]

Days of requests to models of three speeds are made from seeds, each day with one kind of trouble
or with none, and evaluated every 10 s over windows of 300 s, as a server does. An alert is counted
when it begins or grows worse, and is true when that is while a trouble, or a window that has seen
it, lasts; a trouble is found when a true alert tells of it. One that fires all day tells nothing of
a trouble, so its false hours are counted instead. Everything comes from seeds: the figures are the
same on every machine.

The baseline's settings were chosen on the seeds 0 and 1; the results are of others.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from benchmarks.anomaly_series import STEP_S, WINDOW_S, Day, Kind
from benchmarks.results_file import write_results, write_table
from mm_orch.monitoring.alerts.baseline import Baselines, BaselineSettings
from mm_orch.monitoring.alerts.book import NUM_CLEAR, AlertBook, ChangeKind
from mm_orch.monitoring.alerts.thresholds import Thresholds, find_breaches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.anomaly_series import Trouble
    from mm_orch.monitoring.alerts.alert import Breach
    from mm_orch.monitoring.alerts.figures import Figures

_LEVELS_S = (0.08, 0.6, 6.0)
_FIRST_SEED = 100
_RATE_LIMIT_S = 300.0
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# What follows a trouble: it leaves the window, and the alert waits until it is sure.
_GRACE_S = WINDOW_S + NUM_CLEAR * 10
_LATENCY_MS = (500, 1000, 2000, 5000)
# Of a model's median latency; its 95th percentile is at about 2.7.
_FITTED_FACTORS = (3.5, 4.5, 6.0)
_ERROR_RATIOS = (0.01, 0.02, 0.05, 0.1)


class Detector(Protocol):
    """Finds breaches in one evaluation's figures; made anew for each day."""

    def __call__(self, figures: Figures, now_s: float) -> list[Breach]:
        """Return what is wrong."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A detector with its name; it is made for a model whose median latency is given, in s."""

    name: str
    make: Callable[[float], Detector]


@dataclass(slots=True)
class Score:
    """Counts over days.

    Attributes:
        num_alerts: that began or grew worse.
        num_true: those of them that did in a trouble.
        num_troubles: that there were.
        num_found: those in which an alert began or grew worse.
        false_s: for how long alerts fired without a trouble.
        delays_s: from each found one's beginning to its first alert.
    """

    num_days: int = 0
    num_alerts: int = 0
    num_true: int = 0
    num_troubles: int = 0
    num_found: int = 0
    false_s: float = 0.0
    delays_s: list[float] = field(default_factory=list)

    def add(self, troubles: Sequence[Trouble], alerts: Alerts) -> None:
        """Count one day's troubles and alerts."""
        spans = [(one.begin_s, one.end_s + _GRACE_S) for one in troubles]
        self.num_days += 1
        self.num_alerts += len(alerts.told_s)
        self.num_true += sum(_is_within(told_s, spans) for told_s in alerts.told_s)
        self.num_troubles += len(spans)
        self.false_s += STEP_S * sum(not _is_within(time_s, spans) for time_s in alerts.firing_s)
        for span in spans:
            told_s = [time_s for time_s in alerts.told_s if _is_within(time_s, [span])]
            if told_s:
                self.num_found += 1
                self.delays_s.append(min(told_s) - span[0])

    def as_results(self) -> dict[str, object]:
        """Return counts and shares; a share of nothing is None."""
        delays = sorted(self.delays_s)
        return {
            "days": self.num_days,
            "troubles": self.num_troubles,
            "found": self.num_found,
            "recall": _share(self.num_found, self.num_troubles),
            "alerts": self.num_alerts,
            "true_alerts": self.num_true,
            "precision": _share(self.num_true, self.num_alerts),
            "false_alerts_per_day": round((self.num_alerts - self.num_true) / self.num_days, 2),
            "false_hours_per_day": round(self.false_s / 3600 / self.num_days, 2),
            "median_delay_s": round(delays[len(delays) // 2]) if delays else None,
        }


@dataclass(slots=True)
class Alerts:
    """What one detector told of a day: the moments of news, and those at which it fired."""

    told_s: list[float] = field(default_factory=list)
    firing_s: list[float] = field(default_factory=list)


def main() -> int:
    """Measure every contender on every day and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=_FIRST_SEED)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    latency = measure(
        latency_contenders(), [kind for kind in Kind if kind is not Kind.BURST], seeds
    )
    errors = measure(error_contenders(), [Kind.DRIFT, Kind.QUIET, Kind.BURST], seeds)
    figures: dict[str, object] = {
        "num_seeds": options.seeds,
        "levels_s": _LEVELS_S,
        "latency": _results(latency),
        "errors": _results(errors),
    }
    write_results("anomaly", figures)
    print(write_table("anomaly", _HEAD, [*_rows(latency), *_rows(errors)]))
    return 0


def latency_contenders() -> list[Contender]:
    """Return the thresholds, the baseline as it ships, and two more eager ones.

    The same threshold for models of all speeds is what a server of several models has; one that
    fits each model is what somebody who knows them beforehand could choose.
    """
    fixed = [
        Contender(f"fixed {limit} ms", _fixed(Thresholds(latency_threshold_ms=limit)))
        for limit in _LATENCY_MS
    ]
    return [
        *fixed,
        *(_fitted(factor) for factor in _FITTED_FACTORS),
        _adaptive("adaptive", BaselineSettings()),
        _adaptive("adaptive, 4 sigmas", BaselineSettings(num_sigmas=4.0)),
        _adaptive("adaptive, from 1.3 times on", BaselineSettings(min_factor=1.3)),
    ]


def error_contenders() -> list[Contender]:
    """Return a threshold of failed requests at each value."""
    return [
        Contender(f"fixed {limit:.0%} failed", _fixed(Thresholds(error_rate_threshold=limit)))
        for limit in _ERROR_RATIOS
    ]


def measure(
    contenders: Sequence[Contender], kinds: Sequence[Kind], seeds: Sequence[int]
) -> dict[str, dict[Kind, Score]]:
    """Return each contender's score of each kind of day."""
    scores = {one.name: {kind: Score() for kind in kinds} for one in contenders}
    for kind in kinds:
        for level_s in _LEVELS_S:
            for seed in seeds:
                day = Day(kind, level_s, seed)
                evaluations = list(day.figures())
                for one in contenders:
                    alerts = alerts_of(one.make(level_s), evaluations)
                    scores[one.name][kind].add(day.troubles, alerts)
        print(f"{kind.value}: done", file=sys.stderr, flush=True)
    return scores


def alerts_of(detector: Detector, evaluations: Sequence[tuple[float, Figures]]) -> Alerts:
    """Return what an alert book makes of what the detector finds."""
    book = AlertBook(rate_limit_s=_RATE_LIMIT_S)
    alerts = Alerts()
    for now_s, figures in evaluations:
        at = _BEGIN + timedelta(seconds=now_s)
        for change in book.take(detector(figures, now_s), now_s, at):
            if change.kind in {ChangeKind.BEGUN, ChangeKind.WORSENED}:
                alerts.told_s.append(now_s)
        if book.firing(at):
            alerts.firing_s.append(now_s)
    return alerts


def _fixed(thresholds: Thresholds) -> Callable[[float], Detector]:
    def detect(figures: Figures, now_s: float) -> list[Breach]:
        del now_s
        return find_breaches(figures, thresholds)

    return lambda _: detect


def _fitted(factor: float) -> Contender:
    return Contender(
        f"fixed {factor:g} times each model's median",
        lambda level_s: _fixed(Thresholds(latency_threshold_ms=factor * level_s * 1000))(level_s),
    )


def _adaptive(name: str, settings: BaselineSettings) -> Contender:
    return Contender(name, lambda _: Baselines(settings).find_departures)


_HEAD = (
    "detector",
    "days with",
    "found / troubles",
    "recall",
    "true / alerts",
    "precision",
    "false alerts a day",
    "false hours a day",
    "found after",
)


def _rows(scores: dict[str, dict[Kind, Score]]) -> list[list[object]]:
    return [
        _row(name, kind.value, score)
        for name, score_by_kind in scores.items()
        for kind, score in score_by_kind.items()
    ] + [_row(name, "all", _total(by_kind)) for name, by_kind in scores.items()]


def _row(name: str, days: str, score: Score) -> list[object]:
    values = score.as_results()
    delay = values["median_delay_s"]
    return [
        name,
        days,
        f"{score.num_found} / {score.num_troubles}",
        _shown(values["recall"]),
        f"{score.num_true} / {score.num_alerts}",
        _shown(values["precision"]),
        values["false_alerts_per_day"],
        values["false_hours_per_day"],
        "" if delay is None else f"{delay} s",
    ]


def _total(score_by_kind: dict[Kind, Score]) -> Score:
    total = Score()
    for score in score_by_kind.values():
        total.num_days += score.num_days
        total.num_alerts += score.num_alerts
        total.num_true += score.num_true
        total.num_troubles += score.num_troubles
        total.num_found += score.num_found
        total.false_s += score.false_s
        total.delays_s += score.delays_s
    return total


def _results(scores: dict[str, dict[Kind, Score]]) -> dict[str, object]:
    return {
        name: {kind.value: score.as_results() for kind, score in by_kind.items()}
        | {"all": _total(by_kind).as_results()}
        for name, by_kind in scores.items()
    }


def _is_within(time_s: float, spans: Sequence[tuple[float, float]]) -> bool:
    return any(begin_s <= time_s < end_s for begin_s, end_s in spans)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _shown(share: object) -> str:
    return "" if share is None else f"{share}"


if __name__ == "__main__":
    sys.exit(main())
