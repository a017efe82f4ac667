"""Steps that need no long trial: even if they gained nothing, they could not break the target.

Far from the best setting a trial of many windows tells with great care what one window shows. A
batch of twice the size takes at worst twice as long a request and answers no more of them; where
that would still be within the target while requests are turned away, it is made at once. It is kept
when the next window is far better. When that is not, the batch is doubled again from there, as long
as it is safe: two may be no faster than one, and four much. What has gained nothing then is taken
back as a whole, and left to trials of many windows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mm_orch.tuning.guard import GuardStep, find_least_queue
from mm_orch.tuning.knobs import BATCH_SIZE, MAX_FACTOR, QUEUE_CAPACITY

if TYPE_CHECKING:
    from mm_orch.tuning.guard import Guard
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.moves import Move
    from mm_orch.tuning.readings import Reading

# Of requests that come. With fewer the setting is near to what the load asks for.
_MANY_REFUSED = 0.2


def is_safe_leap(
    move: Move, value: int, reading: Reading, setting: Setting, guard: Guard | None
) -> bool:
    """Whether a step may be made without a trial of many windows.

    Args:
        move: that is to be made.
        value: where it leads.
        reading: the last window.
        setting: in force.
        guard: knows what a full house takes; without a target there is none.
    """
    if guard is None or not _is_wanted(move, value, reading, setting):
        return False
    house = guard.find_full_house(setting)
    if house is None:
        return False
    worst_s = house.service_s * value / setting[BATCH_SIZE]
    return guard.fits(worst_s + house.wait_s(setting.get(QUEUE_CAPACITY, 0)))


def find_way(
    move: Move,
    value: int,
    reading: Reading,
    setting: Setting,
    guard: Guard,
    keys: frozenset[str],
) -> GuardStep | None:
    """Return the shorter queue behind which the same step would be safe, or None.

    While many are turned away, a long queue serves nobody: as many are answered behind a short one.

    Args:
        move: that is to be made.
        value: where it leads.
        reading: the last window.
        setting: in force.
        guard: knows what a full house takes.
        keys: what may be changed.
    """
    house, queue = guard.find_full_house(setting), setting.get(QUEUE_CAPACITY, 0)
    if house is None or QUEUE_CAPACITY not in keys or not _is_wanted(move, value, reading, setting):
        return None
    worst_s = house.service_s * value / setting[BATCH_SIZE]
    least = find_least_queue({BATCH_SIZE: value})
    if queue <= least or not guard.fits(worst_s + house.wait_s(least)):
        return None
    num_taken = math.ceil(min(queue, reading.num_waiting))
    shorter = max(guard.find_queue(house, worst_s), math.ceil(num_taken / MAX_FACTOR))
    if shorter >= queue:
        return None
    return GuardStep(
        {QUEUE_CAPACITY: shorter},
        f"makes room to try batches of {value} at once, which may take {worst_s:.1f} s",
    )


def _is_wanted(move: Move, value: int, reading: Reading, setting: Setting) -> bool:
    is_doubling = move.key == BATCH_SIZE and value == MAX_FACTOR * setting.get(BATCH_SIZE, 0)
    return is_doubling and reading.num_rejected > _MANY_REFUSED * reading.num_arrived
