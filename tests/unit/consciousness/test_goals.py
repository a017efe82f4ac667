"""What a candidate is worth to the operator's goals."""

from __future__ import annotations

import math

import pytest

from mm_orch.config.schema.consciousness import ConsciousnessSettings
from mm_orch.consciousness.goals import (
    COST_OF_HALF,
    LATENCY_OF_HALF_S,
    Candidate,
    Goals,
    goals_of,
    rank,
    score,
)

FREE = Candidate(name="free", expected_quality=0.5, expected_latency_s=0, expected_cost=0)
SMALL = Candidate(name="small", expected_quality=0.5, expected_latency_s=2, expected_cost=40)
LARGE = Candidate(name="large", expected_quality=0.8, expected_latency_s=20, expected_cost=900)


@pytest.mark.parametrize(
    ("goals", "candidate", "expected"),
    [
        (Goals(quality=1, latency=0, cost=0), SMALL, 0.5),
        (Goals(quality=0, latency=1, cost=0), FREE, 1.0),
        (Goals(quality=1, latency=1, cost=1), FREE, (0.5 + 1 + 1) / 3),
        (
            Goals(quality=0, latency=1, cost=0),
            Candidate(
                name="a",
                expected_quality=0,
                expected_latency_s=LATENCY_OF_HALF_S,
                expected_cost=0,
            ),
            0.5,
        ),
        (
            Goals(quality=0, latency=0, cost=1),
            Candidate(
                name="a", expected_quality=0, expected_latency_s=0, expected_cost=COST_OF_HALF
            ),
            0.5,
        ),
    ],
)
def test_the_score_is_the_weighted_mean(
    goals: Goals, candidate: Candidate, expected: float
) -> None:
    assert score(candidate, goals) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("goals", "best"),
    [
        (Goals(quality=1, latency=0, cost=0), "large"),
        (Goals(quality=0, latency=1, cost=0), "small"),
        (Goals(quality=0, latency=0, cost=1), "small"),
        # A better answer by a third is not worth ten times the wait.
        (Goals(), "small"),
    ],
)
def test_the_goals_decide_which_is_best(goals: Goals, best: str) -> None:
    assert rank([LARGE, SMALL], goals)[0].name == best


def test_only_the_proportions_of_goals_count() -> None:
    full, half = Goals(quality=1, latency=0.4, cost=0.2), Goals(quality=0.5, latency=0.2, cost=0.1)

    assert score(LARGE, full) == pytest.approx(score(LARGE, half))


def test_of_equal_ones_the_cheaper_leads_and_then_the_first() -> None:
    dear = Candidate(name="dear", expected_quality=0.5, expected_latency_s=2, expected_cost=41)
    again = Candidate(name="again", expected_quality=0.5, expected_latency_s=2, expected_cost=40)
    goals = Goals(quality=1, latency=0, cost=0)

    assert [one.name for one in rank([dear, SMALL, again], goals)] == ["small", "again", "dear"]


@pytest.mark.parametrize("weights", [(0, 0, 0), (-0.1, 1, 1), (1, 1.1, 1), (1, 1, math.nan)])
def test_goals_that_mean_nothing_are_refused(weights: tuple[float, float, float]) -> None:
    quality, latency, cost = weights
    with pytest.raises(ValueError, match="0"):
        Goals(quality=quality, latency=latency, cost=cost)


@pytest.mark.parametrize(
    ("quality", "latency_s", "cost"), [(1.1, 1, 1), (0.5, -1, 1), (0.5, 1, math.inf)]
)
def test_expectations_that_mean_nothing_are_refused(
    quality: float, latency_s: float, cost: float
) -> None:
    with pytest.raises(ValueError, match="odd"):
        Candidate(
            name="odd", expected_quality=quality, expected_latency_s=latency_s, expected_cost=cost
        )


def test_switched_off_the_default_goals_count() -> None:
    goals = {"quality": 0.1, "latency": 0.9, "cost": 0.0}
    on = ConsciousnessSettings.model_validate({"goals": goals})
    off = ConsciousnessSettings.model_validate({"goals": goals, "enabled": False})

    assert goals_of(on) == Goals(quality=0.1, latency=0.9, cost=0.0)
    assert goals_of(off) == Goals()
