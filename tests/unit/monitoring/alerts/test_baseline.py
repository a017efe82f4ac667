from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mm_orch.monitoring.alerts.alert import ANOMALY, Identity, Severity
from mm_orch.monitoring.alerts.baseline import Baselines, BaselineSettings
from mm_orch.monitoring.alerts.figures import Figures, ModelFigures

if TYPE_CHECKING:
    from mm_orch.monitoring.alerts.alert import Breach

SETTINGS = BaselineSettings()
STEADY = ModelFigures(
    model="m", engine="e", num_succeeded=100, latency_p50_s=1.0, latency_p95_s=2.0
)


class Series:
    """Evaluations every ten seconds, whose figures vary by a few percent."""

    def __init__(self) -> None:
        self.baselines = Baselines(SETTINGS)
        self.now_s = 0.0
        self._dice = random.Random(0)  # noqa: S311 - figures, the same in every run

    def run(self, minutes: float, factor: float = 1.0, num_succeeded: int = 100) -> list[Breach]:
        found = []
        for _ in range(int(minutes * 6)):
            noise = self._dice.lognormvariate(0, 0.03)
            figures = replace(
                STEADY,
                num_succeeded=num_succeeded,
                latency_p50_s=factor * noise,
                latency_p95_s=2 * factor * noise,
            )
            found += self.baselines.find_departures(Figures(models=(figures,)), self.now_s)
            self.now_s += 10
        return found


@pytest.fixture
def learned() -> Series:
    series = Series()
    assert series.run(90) == []
    return series


def test_a_lasting_shift_is_told_of_and_then_is_what_is_usual(learned: Series) -> None:
    found = learned.run(120, factor=3)

    minutes = len(found) / 6
    assert 25 < minutes < 35
    assert learned.run(30, factor=3) == []
    assert {breach.identity for breach in found} == {Identity(ANOMALY, "m", "e")}


@pytest.mark.parametrize(
    ("factor", "severity"),
    [(2, Severity.WARNING), (4, Severity.ERROR), (8, Severity.CRITICAL)],
)
def test_a_departure_is_as_grave_as_it_is_large(
    learned: Series, factor: float, severity: Severity
) -> None:
    found = learned.run(5, factor=factor)

    assert {breach.severity for breach in found} == {severity}
    assert found[0].limit < found[0].value


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.9, 1.2, 1.4])
def test_being_faster_or_a_little_slower_is_no_departure(learned: Series, factor: float) -> None:
    assert learned.run(60, factor=factor) == []


def test_a_moment_is_no_departure(learned: Series) -> None:
    assert learned.run(2 / 6, factor=10) == []
    assert learned.run(10) == []


def test_few_requests_neither_alarm_nor_teach(learned: Series) -> None:
    assert learned.run(120, factor=10, num_succeeded=19) == []
    assert learned.run(5, factor=3) != []


def test_the_figures_of_few_requests_may_vary_more(learned: Series) -> None:
    assert learned.run(1, factor=1.51, num_succeeded=20) == []
    assert learned.run(1, factor=1.51, num_succeeded=500) != []


def test_nothing_is_judged_before_enough_was_learned() -> None:
    series = Series()
    series.run(SETTINGS.num_warm_up - 2)

    assert series.run(1, factor=10) == []


def test_a_short_trouble_does_not_become_usual(learned: Series) -> None:
    assert learned.run(10, factor=4) != []
    learned.run(10)

    assert learned.run(10, factor=4) != []


def test_engines_of_a_model_have_baselines_of_their_own(learned: Series) -> None:
    slower = replace(STEADY, engine="other", latency_p50_s=30.0, latency_p95_s=60.0)

    for second in range(0, 600, 10):
        figures = Figures(models=(slower,))
        assert learned.baselines.find_departures(figures, learned.now_s + second) == []


def test_latencies_of_zero_and_none_are_passed_over() -> None:
    baselines = Baselines()
    for p95_s in (None, 0.0):
        figures = Figures(models=(replace(STEADY, latency_p95_s=p95_s),))
        assert baselines.find_departures(figures, 0) == []


def test_baselines_are_bounded_in_number() -> None:
    baselines = Baselines()
    models = tuple(replace(STEADY, model=f"m{number}") for number in range(500))

    baselines.find_departures(Figures(models=models), 0)

    assert len(baselines._baseline_by_key) == 256
