"""How fast something grows, and how sure that is."""

from __future__ import annotations

import random

import pytest

from benchmarks.slopes import Series, estimate_slope, fit_slope


def test_lives_of_other_levels_share_one_slope() -> None:
    young = Series.of([(0.0, 10.0), (1.0, 12.0), (2.0, 14.0)])
    old = Series.of([(100.0, 5.0), (101.0, 7.0)])

    assert fit_slope([young, old]) == pytest.approx(2.0)
    assert young.since(1.0) == Series((1.0, 2.0), (12.0, 14.0))


def test_the_interval_holds_the_slope_that_noise_hides() -> None:
    dice = random.Random(7)  # noqa: S311 - reproducible on purpose
    noisy = Series.of((float(at), 0.5 * at + dice.gauss(0, 3)) for at in range(200))

    slope = estimate_slope([noisy], unit_s=60.0)

    assert slope.low < 30.0 < slope.high
    assert slope.high - slope.low < 6.0


def test_a_life_too_short_to_be_cut_has_no_say() -> None:
    long = Series.of((float(at), 3.0 * at) for at in range(20))

    assert estimate_slope([long, Series((5.0,), (9.0,))], unit_s=1.0).median == pytest.approx(3.0)


@pytest.mark.parametrize("series", [[], [Series((1.0,), (2.0,))]])
def test_one_moment_has_no_slope(series: list[Series]) -> None:
    with pytest.raises(ValueError, match="measure for longer"):
        estimate_slope(series, unit_s=1.0)
    with pytest.raises(ValueError, match="measure for longer"):
        fit_slope(series)
