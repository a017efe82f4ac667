from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.anomaly import Alerts, Score, alerts_of, latency_contenders
from benchmarks.anomaly_series import DAY_S, NUM_STEPS, STEP_S, Day, Kind, Trouble
from mm_orch.monitoring.alerts.figures import Figures
from tests.unit.monitoring.alerts.alerts import breach

if TYPE_CHECKING:
    from mm_orch.monitoring.alerts.alert import Breach


def test_a_day_is_the_same_whenever_it_is_made() -> None:
    first, second, other = (list(Day(Kind.SHIFT, 0.5, seed).figures())[:500] for seed in (1, 1, 2))

    assert first == second
    assert first != other


def test_a_day_has_its_troubles_apart() -> None:
    day = Day(Kind.SPIKE, 0.5, 3)

    assert len(day.troubles) >= 5
    ends = [0.0, *(one.end_s for one in day.troubles)]
    assert all(begin.begin_s - end > 3600 for begin, end in zip(day.troubles, ends, strict=False))
    assert ends[-1] < DAY_S


@pytest.mark.parametrize("kind", [Kind.DRIFT, Kind.QUIET])
def test_days_without_trouble_have_none(kind: Kind) -> None:
    assert Day(kind, 0.5, 0).troubles == ()


def test_alerts_are_true_in_a_trouble_or_soon_after() -> None:
    score = Score()

    score.add(
        [Trouble(1000, 1200, 2.0), Trouble(5000, 5200, 2.0)],
        Alerts(told_s=[500, 1100, 1300, 4000], firing_s=[500, 510, 1100, 1300, 4000]),
    )

    assert score.as_results() == {
        "days": 1,
        "troubles": 2,
        "found": 1,
        "recall": 0.5,
        "alerts": 4,
        "true_alerts": 2,
        "precision": 0.5,
        "false_alerts_per_day": 2.0,
        "false_hours_per_day": round(3 * STEP_S / 3600, 2),
        "median_delay_s": 100,
    }


def test_an_alert_that_fires_all_day_finds_no_trouble() -> None:
    def always(figures: Figures, now_s: float) -> list[Breach]:
        del figures, now_s
        return [breach()]

    evaluations = [(float(number * STEP_S), Figures()) for number in range(NUM_STEPS)]
    alerts = alerts_of(always, evaluations)
    score = Score()
    score.add([Trouble(3000, 4000, 2.0)], alerts)

    assert len(alerts.told_s) == 1
    assert score.as_results()["found"] == 0


def test_the_baseline_finds_the_spikes_of_a_day() -> None:
    day = Day(Kind.SPIKE, 0.5, 5)
    [adaptive] = [one for one in latency_contenders() if one.name == "adaptive"]
    score = Score()

    score.add(day.troubles, alerts_of(adaptive.make(0.5), list(day.figures())))

    assert score.as_results()["recall"] == 1.0
    assert score.as_results()["false_alerts_per_day"] == 0.0
