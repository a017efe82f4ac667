"""What the guard knows of steps, and which options it changes together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_orch.tuning.decisions import name_change
from mm_orch.tuning.guard import Guard
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, QUEUE_CAPACITY
from mm_orch.tuning.objective import Objective
from mm_orch.tuning.readings import Reading
from tests.tuning_simulation import make_setting

ALL = frozenset(KNOBS)
# Eight at a time in steps of 30 ms, so each takes two seconds and four are done in one.
FULL = Reading(
    span_s=10.0,
    num_arrived=60,
    num_succeeded=40,
    tokens_per_s=260.0,
    latency_p95_s=3.0,
    service_p95_s=2.0,
    batch_size_mean=8.0,
    num_running=8.0,
    busy_ratio=1.0,
    step_s=0.030,
)
# Half as many took steps of 20 ms: 10 ms, and 2.5 ms for each.
SMALLER = replace(FULL, batch_size_mean=4.0, step_s=0.020, service_p95_s=1.3, num_succeeded=30)


def test_windows_of_several_sizes_tell_what_steps_of_one_size_cannot() -> None:
    guard, sixteen = Guard(4.0), make_setting(batch_size=16, queue_capacity=2)
    for _ in range(3):
        guard.take(FULL)
    assert guard.allows(sixteen)

    other = Guard(4.0)
    for reading in (SMALLER, FULL, FULL, FULL):
        other.take(reading)

    house = other.find_full_house(sixteen)
    assert house is not None
    assert house.service_s == pytest.approx(2.0 * 50 / 30)
    assert not other.allows(sixteen)


def test_a_long_queue_is_shortened_with_the_batch() -> None:
    guard, setting = Guard(4.0), make_setting(batch_size=256, queue_capacity=1000)
    guard.take(SMALLER)
    guard.take(FULL)

    step = guard.find_step(setting, ALL)

    assert step is not None
    assert step.new.keys() == {BATCH_SIZE, QUEUE_CAPACITY}
    assert step.new[BATCH_SIZE] == 8
    assert step.new[QUEUE_CAPACITY] < 10
    assert "full batch of 256" in step.reason
    assert "full queue of 1000" in step.reason
    only = guard.find_step(setting, ALL - {QUEUE_CAPACITY})
    assert only is not None
    assert only.new == {BATCH_SIZE: 8}


@pytest.mark.parametrize(
    ("new", "name"),
    [
        ({BATCH_SIZE: 4}, ("max_batch_size", "down")),
        ({BATCH_SIZE: 16}, ("max_batch_size", "up")),
        ({BATCH_SIZE: 4, QUEUE_CAPACITY: 5}, ("several", "down")),
        ({BATCH_SIZE: 16, QUEUE_CAPACITY: 5}, ("several", "none")),
    ],
)
def test_changes_of_several_options_have_a_direction_where_it_is_one(
    new: dict[str, int], name: tuple[str, str]
) -> None:
    assert name_change(make_setting(batch_size=8, queue_capacity=9), new) == name


def windows(*p95s_s: float) -> list[Reading]:
    return [replace(FULL, latency_p95_s=p95_s) for p95_s in p95s_s]


@pytest.mark.parametrize(
    ("before", "after", "num_between", "is_harm"),
    [
        ((4.0, 4.0, 4.0), (4.3, 4.3), 1, False),
        ((4.0, 4.0, 4.0), (4.5, 4.5), 1, True),
        # A queue that fills: two seconds more in each window.
        ((4.0, 6.0, 8.0), (12.0, 14.0), 1, False),
        ((4.0, 6.0, 8.0), (10.0, 12.0), 0, False),
        ((4.0, 6.0, 8.0), (17.0, 19.0), 1, True),
        # It had come to rest.
        ((4.0, 8.0, 8.0), (12.0, 14.0), 1, True),
    ],
)
def test_without_a_target_p95_may_go_on_as_it_did(
    before: tuple[float, ...], after: tuple[float, ...], num_between: int, *, is_harm: bool
) -> None:
    objective = Objective(None)

    harm = objective.find_harm(windows(*before), windows(*after), num_between=num_between)

    assert bool(harm) is is_harm
