from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from benchmarks.batching_simulator import BatchingSimulator
from mm_orch.tuning.guard import Guard
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, QUEUE_CAPACITY
from mm_orch.tuning.leap import find_way, is_safe_leap
from mm_orch.tuning.moves import Move
from tests.tuning_simulation import ENGINE, WINDOW_S, WORKLOAD, make_setting

if TYPE_CHECKING:
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading

HIGH = 7.0


def see(setting: Setting, rate: float, target_s: float) -> tuple[Guard, Reading]:
    simulator = BatchingSimulator(ENGINE, WORKLOAD, setting, seed=1)
    for _ in range(8):
        reading = simulator.run(WINDOW_S, rate)
    guard = Guard(target_s)
    guard.take(reading)
    return guard, reading


@pytest.mark.parametrize(
    ("target_s", "queue", "rate", "is_safe"),
    [
        (8.0, 2, HIGH, True),
        (2.0, 2, HIGH, False),
        (8.0, 100, HIGH, False),
        (8.0, 2, 0.3, False),
    ],
    ids=["much is refused", "twice the time is too long", "the queue is too long", "all is served"],
)
def test_only_where_nothing_can_be_lost_and_much_is_refused(
    target_s: float, queue: int, rate: float, *, is_safe: bool
) -> None:
    setting = make_setting(batch_size=2, queue_capacity=queue)
    guard, reading = see(setting, rate, target_s)
    up = Move(BATCH_SIZE, "up", "the batch is full")

    assert is_safe_leap(up, 4, reading, setting, guard) is is_safe
    assert not is_safe_leap(Move(BATCH_SIZE, "down", "-"), 1, reading, setting, guard)
    assert not is_safe_leap(Move(QUEUE_CAPACITY, "up", "-"), 4, reading, setting, guard)
    assert not is_safe_leap(up, 4, reading, setting, None)


@pytest.mark.parametrize(
    ("target_s", "queue", "rate", "expected"),
    [(4.0, 12, HIGH, range(2, 12)), (4.0, 2, HIGH, None), (1.0, 12, HIGH, None)],
    ids=["behind a shorter queue it is safe", "no queue is shorter", "it is too long by itself"],
)
def test_a_shorter_queue_makes_way_for_a_leap(
    target_s: float, queue: int, rate: float, expected: range | None
) -> None:
    setting = make_setting(batch_size=2, queue_capacity=queue)
    guard, reading = see(setting, rate, target_s)
    up = Move(BATCH_SIZE, "up", "the batch is full")

    way = find_way(up, 4, reading, setting, guard, frozenset(KNOBS))

    if expected is None:
        assert way is None
        return
    assert way is not None
    assert way.new[QUEUE_CAPACITY] in expected
    assert not is_safe_leap(up, 4, reading, setting, guard)
    # Of places that are taken, at most half are given up at a time.
    halved = math.ceil(reading.num_waiting / 2)
    is_safe = is_safe_leap(up, 4, reading, {**setting, **way.new}, guard)
    assert is_safe or way.new[QUEUE_CAPACITY] == halved
    assert find_way(up, 4, reading, setting, guard, frozenset({BATCH_SIZE})) is None
