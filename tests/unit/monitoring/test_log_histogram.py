from __future__ import annotations

import pytest

from mm_orch.monitoring.log_histogram import LogHistogram


def test_nothing_counted_has_no_figures() -> None:
    sketch = LogHistogram()

    assert sketch.quantile(0.5) is None
    assert sketch.describe() is None
    with pytest.raises(ValueError, match="of 0 values"):
        sketch.quantiles((0.5,))


def test_a_share_beyond_one_is_refused() -> None:
    sketch = LogHistogram()
    sketch.add(1)

    with pytest.raises(ValueError, match="0 to 1"):
        sketch.quantile(95)


def test_the_figures_of_a_hundred_values() -> None:
    sketch = LogHistogram()
    for hundredth in range(1, 101):
        sketch.add(hundredth / 100)

    figures = sketch.describe()
    assert figures is not None
    assert (figures.count, figures.min, figures.max) == (100, 0.01, 1.0)
    assert figures.mean == pytest.approx(0.505)
    assert (figures.p50, figures.p95, figures.p99) == pytest.approx((0.5, 0.95, 0.99), rel=0.01)


def test_equal_values_are_told_exactly() -> None:
    sketch = LogHistogram()
    sketch.add(0.1, 3)

    figures = sketch.describe()
    assert figures is not None
    assert figures.mean == figures.p50 == figures.p99 == figures.max == 0.1
