"""Curves that are fitted, and the error of what they say."""

from __future__ import annotations

import random

import pytest

from mm_orch.consciousness.calibration import to_score, to_share
from mm_orch.consciousness.calibration_error import (
    brier_score,
    expected_calibration_error,
    make_reliability_table,
    rank_quality,
)
from mm_orch.consciousness.fitting import fit_curve


def drawn(
    num_answers: int, bias: float, weight: float
) -> tuple[list[dict[str, float]], list[bool]]:
    """Draw answers whose figure "mean" decides how likely they are right; "total" tells nothing."""
    dice = random.Random(0)  # noqa: S311 - reproducible on purpose
    figures = [
        {"mean": dice.uniform(-3, 0), "total": dice.uniform(0, 1)} for _ in range(num_answers)
    ]
    outcomes = [dice.random() < to_share(bias + weight * one["mean"]) for one in figures]
    return figures, outcomes


def test_a_curve_is_found_again_in_what_was_drawn_from_it() -> None:
    figures, outcomes = drawn(4000, bias=2.0, weight=1.5)

    curve = fit_curve(figures, outcomes, ("mean", "total"))

    assert curve.num_examples == 4000
    assert curve.bias == pytest.approx(2.0, abs=0.3)
    assert curve.weights["mean"] == pytest.approx(1.5, abs=0.2)
    assert curve.weights["total"] == pytest.approx(0, abs=0.3)


def test_a_fitted_curve_says_what_share_was_right() -> None:
    figures, outcomes = drawn(4000, bias=2.0, weight=1.5)
    curve = fit_curve(figures, outcomes, ("mean",))
    shares = [curve.apply(one) for one in figures]

    assert sum(shares) / len(shares) == pytest.approx(sum(outcomes) / len(outcomes), abs=0.01)
    assert expected_calibration_error(shares, outcomes) < 0.03


@pytest.mark.parametrize("outcomes", [[True] * 6, [False] * 6, [False] * 3 + [True] * 3])
def test_figures_that_tell_everything_or_nothing_make_finite_curves(outcomes: list[bool]) -> None:
    figures = [{"mean": float(number), "least": 1.0} for number in range(6)]

    curve = fit_curve(figures, outcomes, ("mean", "least"))

    shares = [curve.apply(one) for one in figures]
    assert all(0 < share < 1 for share in shares)
    assert curve.weights["least"] == pytest.approx(0)
    assert [share > 0.5 for share in shares] == outcomes


@pytest.mark.parametrize(("figures", "outcomes"), [([], []), ([{"mean": 1.0}], [])])
def test_nothing_cannot_be_fitted(figures: list[dict[str, float]], outcomes: list[bool]) -> None:
    with pytest.raises(ValueError, match="cannot be fitted"):
        fit_curve(figures, outcomes, ("mean",))


@pytest.mark.parametrize("score", [-1000.0, -2.0, 0.0, 2.0, 1000.0])
def test_every_score_has_a_share(score: float) -> None:
    assert 0 <= to_share(score) <= 1
    if abs(score) < 10:
        assert to_score(to_share(score)) == pytest.approx(score)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    # 0.9 sure: 3 of 4 right; 0.25 sure: 1 of 2; 1.0 belongs to the last bin.
    confidences = [0.95, 0.9, 0.9, 1.0, 0.25, 0.25]
    outcomes = [True, True, True, False, True, False]

    table = make_reliability_table(confidences, outcomes)

    assert [(one.low, one.num_answers, one.accuracy) for one in table] == [
        (0.2, 2, 0.5),
        (0.9, 4, 0.75),
    ]
    expected = (2 * 0.25 + 4 * (0.9375 - 0.75)) / 6
    assert expected_calibration_error(confidences, outcomes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidences", "outcomes", "error", "brier"),
    [
        ([1.0, 0.0], [True, False], 0.0, 0.0),
        ([1.0, 1.0], [False, False], 1.0, 1.0),
        ([0.5, 0.5], [True, False], 0.0, 0.25),
    ],
)
def test_known_errors(
    confidences: list[float], outcomes: list[bool], error: float, brier: float
) -> None:
    assert expected_calibration_error(confidences, outcomes) == pytest.approx(error)
    assert brier_score(confidences, outcomes) == pytest.approx(brier)


@pytest.mark.parametrize(
    ("confidences", "outcomes", "quality"),
    [
        ([0.9, 0.1], [True, False], 1.0),
        ([0.1, 0.9], [True, False], 0.0),
        ([0.5, 0.5], [True, False], 0.5),
        ([0.9, 0.4, 0.5], [True, True, False], 0.5),
    ],
)
def test_rank_quality_is_how_often_right_answers_are_surer(
    confidences: list[float], outcomes: list[bool], quality: float
) -> None:
    assert rank_quality(confidences, outcomes) == quality


def test_without_answers_there_is_no_error() -> None:
    with pytest.raises(ValueError, match="as many of both"):
        brier_score([], [])
    with pytest.raises(ValueError, match="as many of both"):
        expected_calibration_error([0.5], [])
    with pytest.raises(ValueError, match="Right and wrong"):
        rank_quality([0.5], [True])
