from __future__ import annotations

import pytest

from mm_orch.tuning.knobs import QUEUE_CAPACITY
from mm_orch.tuning.load import Load
from mm_orch.tuning.readings import Reading
from mm_orch.tuning.settling import SettledWindows, count_draining, count_settling

LOW, HIGH = Load(1.0, 2.0), Load(8.0, 12.0)


def number(tokens_per_s: float) -> Reading:
    return Reading(span_s=10.0, tokens_per_s=tokens_per_s)


def show(windows: SettledWindows) -> list[float]:
    return [one.tokens_per_s for one in windows.readings]


def test_windows_that_settle_or_tell_nothing_are_passed_over() -> None:
    windows = SettledWindows(3)
    windows.start_over(1)

    assert windows.is_settling
    assert not windows.take(number(1), is_telling=True)
    assert windows.take(number(2), is_telling=False)
    for tokens_per_s in (3, 4, 5, 6):
        assert windows.take(number(tokens_per_s), is_telling=True)

    assert show(windows) == [4, 5, 6]
    assert not windows.is_settling


def test_of_more_windows_than_are_kept_from_now_on_the_newest_stay() -> None:
    windows = SettledWindows(4)
    windows.start_over(0, [number(one) for one in (1, 2, 3, 4)])

    windows.keep_at_most(2)
    assert show(windows) == [3, 4]
    windows.keep_at_most(3)
    for tokens_per_s in (5, 6):
        windows.take(number(tokens_per_s), is_telling=True)

    assert (show(windows), windows.max_windows) == ([4, 5, 6], 3)


def test_a_load_that_returns_to_the_same_setting_finds_its_windows() -> None:
    windows = SettledWindows(8)
    windows.take(number(1), is_telling=True)

    windows.turn_to(HIGH, LOW)
    assert show(windows) == []
    windows.take(number(2), is_telling=True)
    windows.take(number(3), is_telling=True)
    windows.turn_to(LOW, HIGH)
    assert show(windows) == [1]
    # By chance a tenth more come than before.
    windows.turn_to(Load(8.8, 3.0), LOW)

    assert show(windows) == [3]
    assert windows.is_settling


def test_another_setting_forgets_what_other_loads_showed_of_the_one_before() -> None:
    windows = SettledWindows(8)
    windows.take(number(1), is_telling=True)
    windows.turn_to(HIGH, LOW)

    windows.start_over(0, [number(2)])
    assert show(windows) == [2]
    windows.turn_to(LOW, HIGH)

    assert show(windows) == []


@pytest.mark.parametrize(
    ("latency_s", "num_waiting", "places", "num_windows"),
    [(None, 0, 10, 1), (25.0, 0, 10, 3), (90.0, 0, 10, 3), (5.0, 60, 10, 6), (5.0, 30, 10, 3)],
)
def test_a_queue_cut_short_drains_first(
    latency_s: float | None, num_waiting: int, places: int, num_windows: int
) -> None:
    reading = Reading(
        span_s=10.0, num_succeeded=10, latency_p50_s=latency_s, num_waiting=num_waiting
    )

    assert count_draining(reading, {QUEUE_CAPACITY: places}) == num_windows
    assert count_settling(reading) <= num_windows
