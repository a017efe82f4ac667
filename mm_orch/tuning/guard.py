"""Steps that keep the target rather than try anything: they are taken, not tried.

A bound on the queue costs nothing until the queue is full, and a queue that takes longer than the
target allows serves nobody. Places in queue or batch that nobody takes are given up in one step:
that changes nothing yet. Of those that are taken, at most half are.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.tuning.forecast import FullHouse, forecast
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, MAX_FACTOR, QUEUE_CAPACITY
from mm_orch.tuning.readings import StepCosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading

_MARGIN = 0.8
"""Share of the target that a full house may take: p95 of a short window strays."""
_BATCH_MARGIN = 0.9
"""Alike, with as few waiting as there may be."""
# Forecasts stray as well, and a bound that follows them all would never rest.
_QUEUE_SLACK = 1.25
_NUM_REMEMBERED = 3
_NUM_FITTED = 16
_MIN_SPREAD = 1.5
_NEARLY_FULL = 0.75
# Behind a batch of so many, one at least has to wait, or places stay empty from step to step.
_PLACES_PER_WAITING = 8
_FEWEST_WAITING = 2
_QUEUE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class GuardStep:
    """New values by key, and why."""

    new: dict[str, int]
    reason: str


class Guard:
    """Knows from the last windows what a full house would take.

    Args:
        target_s: for p95.
    """

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s
        self._readings: deque[Reading] = deque(maxlen=_NUM_REMEMBERED)
        self._costs: StepCosts | None = None
        self._steps: deque[tuple[float, float]] = deque(maxlen=_NUM_FITTED)
        # Mean batch sizes of windows whose requests ran within the target.
        self._kept_sizes: deque[float] = deque(maxlen=_NUM_FITTED)

    def take(self, reading: Reading) -> None:
        """Remember a window with traffic."""
        self._readings.append(reading)
        if reading.batch_size_mean is not None and reading.step_s is not None:
            self._steps.append((reading.batch_size_mean, reading.step_s))
            is_kept = reading.service_p95_s is not None and self.fits(reading.service_p95_s)
            self._kept_sizes.append(reading.batch_size_mean if is_kept else 0.0)
        # A batch that is always full has steps of one size: then other windows have to tell.
        self._costs = reading.step_costs or _fit_windows(self._steps) or self._costs

    def find_full_house(self, setting: Setting) -> FullHouse | None:
        """Return the forecast for a setting, the median of the last windows'."""
        known = [
            house
            for reading in self._readings
            if (house := forecast(reading, setting, self._costs)) is not None
        ]
        if not known:
            return None
        return FullHouse(
            statistics.median(house.service_s for house in known),
            statistics.median(house.requests_per_s for house in known),
        )

    def allows(self, setting: Setting) -> bool:
        """Whether such batches would keep the target behind the shortest queue, as far as known."""
        house = self.find_full_house(setting)
        if house is None or self._costs is None:
            return True
        return self.fits(house.service_s + house.wait_s(find_least_queue(setting)))

    def fits(self, latency_s: float) -> bool:
        """Whether so long a time is within the target, and a little to spare."""
        return latency_s <= _BATCH_MARGIN * self._target_s

    def find_queue(self, house: FullHouse, service_s: float) -> int:
        """Return how many may wait for the house's places where one takes so long."""
        return int((_BATCH_MARGIN * self._target_s - service_s) * house.requests_per_s)

    def limit(self, key: str, value: int, setting: Setting, keys: frozenset[str]) -> int | None:
        """Return as much of a step up as the target has room for, or None.

        Args:
            key: of the option.
            value: that the step leads to.
            setting: in force.
            keys: what may be changed.
        """
        if key == BATCH_SIZE:
            # Where a whole step would be too much, half of one may still do.
            half = KNOBS[key].between(setting[key], value)
            steps = [one for one in (value, half) if one is not None]
            return next((one for one in steps if self.allows({**setting, key: one})), None)
        is_too_much = key == QUEUE_CAPACITY and self.find_step({**setting, key: value}, keys)
        return None if is_too_much else value

    def find_room(self, setting: Setting, keys: frozenset[str]) -> GuardStep | None:
        """Return the step that makes room in the target for batches of this size, or None.

        Args:
            setting: with the batch size that is to be tried.
            keys: what may be changed.
        """
        house, queue = self.find_full_house(setting), setting.get(QUEUE_CAPACITY, 0)
        if house is None or QUEUE_CAPACITY not in keys:
            return None
        limit_s = _BATCH_MARGIN * self._target_s
        num_allowed = max(find_least_queue(setting), house.find_queue(limit_s))
        if queue <= num_allowed:
            return None
        return GuardStep(
            {QUEUE_CAPACITY: max(num_allowed, math.ceil(queue / MAX_FACTOR))},
            f"makes room for batches of {setting[BATCH_SIZE]} within the target of"
            f" {self._target_s:g} s",
        )

    def find_step(
        self, setting: Setting, keys: frozenset[str], min_batch_size: int = 1
    ) -> GuardStep | None:
        """Return the step that a forecast asks for, or None.

        Args:
            setting: what is in force.
            keys: what may be changed.
            min_batch_size: no batch may be smaller.
        """
        house = self.find_full_house(setting)
        if house is None:
            return None
        shrunk = (
            None
            if self._was_seen(setting) or self.allows(setting)
            else self._shrink_batch(setting, keys, house, min_batch_size)
        )
        shortened = self._shorten_queue({**setting, **(shrunk.new if shrunk else {})}, keys)
        if shrunk is None or shortened is None:
            return shrunk or shortened
        # Together: a queue that is still long fills while the batch alone is small.
        return GuardStep({**shrunk.new, **shortened.new}, f"{shrunk.reason}; {shortened.reason}")

    def _was_seen(self, setting: Setting) -> bool:
        """Whether nearly full batches of this size ran within the target lately.

        What few sequences at a time take says little of what many do, and nothing against it.
        """
        least = _NEARLY_FULL * setting.get(BATCH_SIZE, 0)
        return any(size >= least for size in self._kept_sizes)

    def _shorten_queue(self, setting: Setting, keys: frozenset[str]) -> GuardStep | None:
        house, queue = self.find_full_house(setting), setting.get(QUEUE_CAPACITY, 0)
        if house is None or QUEUE_CAPACITY not in keys:
            return None
        num_allowed = max(find_least_queue(setting), house.find_queue(_MARGIN * self._target_s))
        if queue <= num_allowed * _QUEUE_SLACK + 1:
            return None
        num_taken = math.ceil(min(queue, self._readings[-1].num_waiting))
        return GuardStep(
            {QUEUE_CAPACITY: max(num_allowed, math.ceil(num_taken / MAX_FACTOR))},
            f"behind a full queue of {queue} the last would wait"
            f" {house.wait_s(queue):.1f} s and run {house.service_s:.1f} s, with a target of"
            f" {self._target_s:g} s; about {num_allowed} fit",
        )

    def find_emergency(
        self, reading: Reading, setting: Setting, keys: frozenset[str]
    ) -> GuardStep | None:
        """Return the step down to take where p95 is over its target and no forecast says why."""
        latency_s, wait_s = reading.latency_p95_s or 0.0, reading.queue_wait_p95_s or 0.0
        order = [QUEUE_CAPACITY, BATCH_SIZE]
        if wait_s < _QUEUE_SHARE * latency_s:
            order.reverse()
        if setting.get(QUEUE_CAPACITY, 0) <= find_least_queue(setting):
            order = [BATCH_SIZE]
        for key in order:
            value = KNOBS[key].below(setting[key]) if key in keys and key in setting else None
            if value is not None:
                return GuardStep(
                    {key: value},
                    f"p95 was {latency_s:.1f} s, {wait_s:.1f} s of it waiting, over the target of"
                    f" {self._target_s:g} s",
                )
        return None

    def _shrink_batch(
        self, setting: Setting, keys: frozenset[str], house: FullHouse, min_batch_size: int
    ) -> GuardStep | None:
        batch_size = setting.get(BATCH_SIZE)
        if self._costs is None or batch_size is None or BATCH_SIZE not in keys:
            return None
        num_taken = min(batch_size, self._readings[-1].num_running)
        least = max(min_batch_size, math.ceil(num_taken / MAX_FACTOR))
        value = batch_size
        while not self.allows({**setting, BATCH_SIZE: value}):
            below = KNOBS[BATCH_SIZE].below(value)
            if below is None or below < least:
                break
            value = below
        if value == batch_size:
            return None
        return GuardStep(
            {BATCH_SIZE: value},
            f"in a full batch of {batch_size} a request would run {house.service_s:.1f} s, with a"
            f" target of {self._target_s:g} s",
        )


def find_least_queue(setting: Setting) -> int:
    """Return how many have to have a place to wait behind batches of this size."""
    return max(_FEWEST_WAITING, setting.get(BATCH_SIZE, 0) // _PLACES_PER_WAITING)


def _fit_windows(steps: Sequence[tuple[float, float]]) -> StepCosts | None:
    """Return the line through mean steps of windows, or None where their sizes are too alike.

    Args:
        steps: of each window the mean batch size and the mean time of a step.
    """
    sizes = [size for size, _ in steps]
    if not sizes or max(sizes) < _MIN_SPREAD * min(sizes):
        return None
    slope, fixed_s = statistics.linear_regression(sizes, [step_s for _, step_s in steps])
    if slope < 0 or fixed_s < 0:
        return None
    return StepCosts(fixed_s=fixed_s, per_sequence_s=slope)
