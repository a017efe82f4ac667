from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.monitoring.sliding_rate import WINDOW_S, SlidingRate
from tests.unit.monitoring.clock import StillClock


def test_a_young_rate_is_taken_over_its_own_age() -> None:
    clock = StillClock()
    rate = SlidingRate(clock)
    clock.now_s += 10
    rate.add(5)

    assert rate.per_second() == pytest.approx(0.5)


def test_an_old_rate_is_taken_over_the_window() -> None:
    clock = StillClock()
    rate = SlidingRate(clock)
    clock.now_s += 1000
    rate.add(30)

    assert rate.per_second() == pytest.approx(30 / WINDOW_S)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    clock = StillClock()
    rate = SlidingRate(clock)
    rate.add(100)
    clock.now_s += WINDOW_S

    assert rate.per_second() == 0


def test_nothing_has_happened_gives_zero() -> None:
    assert SlidingRate(StillClock()).per_second() == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=60))
def test_the_rate_is_what_a_list_of_all_moments_gives(steps: list[tuple[float, int]]) -> None:
    clock = StillClock()
    rate = SlidingRate(clock)
    happened: list[tuple[float, int]] = []
    for wait_s, count in steps:
        clock.now_s += wait_s
        rate.add(count)
        happened.append((clock.now_s, count))
        age_s = clock.now_s - StillClock.BEGIN_S
        # Slots are a second wide.
        in_window = sum(
            n for at_s, n in happened if int(at_s - StillClock.BEGIN_S) > int(age_s) - WINDOW_S
        )
        assert rate.per_second() == pytest.approx(in_window / min(max(1.0, age_s), WINDOW_S))
