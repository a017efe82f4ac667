from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.monitoring.log_histogram import (
    MAX_S,
    MIN_S,
    RELATIVE_ERROR,
    LogHistogram,
)

VALUES = st.lists(st.floats(MIN_S, MAX_S), min_size=1, max_size=200)
SHARES = st.floats(0, 1)
# A power that lies on a bucket's bound may be rounded into the next one.
ROUNDING = 1e-9


def sketch_of(values: list[float]) -> LogHistogram:
    sketch = LogHistogram()
    for value in values:
        sketch.add(value)
    return sketch


def exact_quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(VALUES, SHARES)
def test_a_quantile_is_the_exact_one_within_the_stated_error(
    values: list[float], share: float
) -> None:
    found = sketch_of(values).quantile(share)

    assert found == pytest.approx(exact_quantile(values, share), rel=RELATIVE_ERROR + ROUNDING)


@given(VALUES)
def test_count_sum_least_and_greatest_are_exact(values: list[float]) -> None:
    sketch = sketch_of(values)

    assert sketch.count == len(values)
    assert sketch.sum == pytest.approx(sum(values))
    assert (sketch.min, sketch.max) == (min(values), max(values))
    assert sketch.quantile(1) == pytest.approx(max(values), rel=RELATIVE_ERROR + ROUNDING)


@given(VALUES, VALUES)
def test_merging_gives_what_counting_all_in_one_gives(one: list[float], other: list[float]) -> None:
    merged = sketch_of(one)
    merged.merge(sketch_of(other))
    whole = sketch_of(one + other)

    shares = (0, 0.25, 0.5, 0.95, 0.99, 1)
    assert merged.quantiles(shares) == whole.quantiles(shares)
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.sum == pytest.approx(whole.sum)


@given(VALUES, st.lists(SHARES, min_size=2, max_size=6).map(sorted))
def test_quantiles_ascend_within_the_range_of_the_values(
    values: list[float], shares: list[float]
) -> None:
    found = sketch_of(values).quantiles(shares)

    assert found == sorted(found)
    assert all(min(values) <= value <= max(values) for value in found)


@given(st.lists(st.floats(MIN_S, MAX_S), max_size=20), st.integers(1, 50))
def test_counting_at_once_equals_counting_singly(values: list[float], times: int) -> None:
    at_once = LogHistogram()
    for value in values:
        at_once.add(value, times)
    singly = sketch_of([value for value in values for _ in range(times)])

    assert at_once.count == singly.count
    assert at_once.quantile(0.9) == singly.quantile(0.9)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_is_clamped_to_the_range(value: float) -> None:
    sketch = sketch_of([value])

    found = sketch.quantile(0.5)
    assert found is not None
    assert MIN_S <= found <= MAX_S
    if not math.isnan(value):
        assert found == pytest.approx(min(MAX_S, max(MIN_S, value)))


def test_memory_is_bounded_whatever_is_counted() -> None:
    sketch = LogHistogram()
    step = 1.005
    value = MIN_S / 2
    while value < MAX_S * 2:
        sketch.add(value)
        value *= step

    assert len(sketch._num_by_bucket) <= 1268
