from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.monitoring.window import SlidingWindow
from tests.unit.monitoring.clock import StillClock

WINDOW_S = 60
NUM_SLOTS = 6
SLOT_S = WINDOW_S / NUM_SLOTS


def new_window(clock: StillClock, begin_s: float | None = None) -> SlidingWindow[list[int]]:
    return SlidingWindow(list, clock=clock, window_s=WINDOW_S, num_slots=NUM_SLOTS, begin_s=begin_s)


def contents(window: SlidingWindow[list[int]], over_s: float | None = None) -> list[int]:
    return [number for slot in window.slots(over_s) for number in slot]


def test_what_is_older_than_the_window_is_forgotten_even_when_nothing_comes() -> None:
    clock = StillClock()
    window = new_window(clock)
    window.slot_now().append(1)
    clock.now_s += WINDOW_S - 1
    assert contents(window) == [1]
    clock.now_s += 1
    assert contents(window) == []
    assert not window._slots

    window.slot_now().append(2)
    assert contents(window) == [2]


def test_a_part_of_the_window_can_be_asked_for() -> None:
    clock = StillClock()
    window = new_window(clock)
    for number in range(NUM_SLOTS):
        window.slot_now().append(number)
        clock.now_s += SLOT_S
    clock.now_s -= 1

    assert contents(window, over_s=2 * SLOT_S) == [4, 5]
    assert contents(window, over_s=1) == [5]
    assert contents(window, over_s=1000) == [0, 1, 2, 3, 4, 5]
    assert window.span_s(2 * SLOT_S) == 2 * SLOT_S - 1


def test_a_young_window_covers_its_own_age_but_no_less_than_a_second() -> None:
    clock = StillClock()
    window = new_window(clock)
    assert window.span_s() == 1
    clock.now_s += 25

    assert window.span_s() == 25
    assert window.span_s(1000) == 25


def test_a_window_can_have_begun_before_it_was_made() -> None:
    clock = StillClock()

    assert new_window(clock, begin_s=clock.now_s - 30).span_s() == 30


def test_an_old_window_covers_its_length_up_to_the_slot_that_is_being_filled() -> None:
    clock = StillClock()
    window = new_window(clock)
    clock.now_s += 1000 * SLOT_S + 3

    assert window.span_s() == WINDOW_S - SLOT_S + 3


@given(st.lists(st.floats(0, 2 * SLOT_S), max_size=60))
def test_memory_is_bounded_and_nothing_recent_is_lost(waits_s: list[float]) -> None:
    clock = StillClock()
    window = new_window(clock)
    moments: list[float] = []
    for number, wait_s in enumerate(waits_s):
        clock.now_s += wait_s
        moments.append(clock.now_s)
        window.slot_now().append(number)

    kept = contents(window)
    assert len(window._slots) <= NUM_SLOTS
    assert len(kept) == len(set(kept))
    for number, at_s in enumerate(moments):
        age_s = clock.now_s - at_s
        if age_s < WINDOW_S - SLOT_S - 1e-6:
            assert number in kept
        if age_s > WINDOW_S + 1e-6:
            assert number not in kept
    assert all(clock.now_s - moments[number] <= window.span_s() + 1e-6 for number in kept)


def test_a_slot_ends_at_its_bound_though_rounding_may_differ() -> None:
    clock = StillClock()
    window = SlidingWindow[list[int]](list, clock=clock, window_s=0.7, num_slots=7)
    for k in range(200):
        clock.now_s = StillClock.BEGIN_S + k * (0.7 / 7)
        window.slot_now().append(k)

    assert contents(window) == pytest.approx(list(range(200 - len(contents(window)), 200)))
    assert len(contents(window)) in {6, 7, 8}
