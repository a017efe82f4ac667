"""How many replicas a model is to have: a decision from one window after another, without I/O.

        requests wait longer than the target, or KV memory is nearly full, twice in a row
                 -> as many as what comes needs, at most twice those that serve: at once
        for all of the quiet time fewer would have been enough, by a margin
                 -> as many as its busiest window needed

More are started on what is measured to be short; fewer are kept on what was measured to be enough:
tokens per second that one replica was seen to compute while others waited. The two leave a gap
between them, in which nothing changes. As in the stabilisation window of Kubernetes' horizontal
pod autoscaler, the busiest window of the quiet time counts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.autoscaling.readings import Decision, Direction

if TYPE_CHECKING:
    from mm_orch.autoscaling.readings import Goals, Reading
    from mm_orch.optimization.replicas.layout import ReplicaRange

NUM_WINDOWS_TO_GROW = 2
"""One window may be a burst that is over before a replica has loaded."""

CATCH_UP_S = 30.0
"""Within this time more replicas are to have begun what waits when they are asked for."""

FULL_KV_RATIO = 0.9
"""Above, sequences are about to wait for one another's memory."""

SPARE_RATIO = 0.7
"""Of tokens per second, places and KV memory, no more than this may be needed of fewer replicas."""


@dataclass(frozen=True, slots=True)
class _Need:
    """Replicas that a window needed, and why."""

    count: int
    why: str


class ScalingPolicy:
    """Decides for one model.

    INVARIANT: within the quiet time after more replicas were wanted, or needed, there are no fewer.
    """

    def __init__(self) -> None:
        self._num_short = 0
        self._num_served_before = 0
        # How long some have waited and none has begun.
        self._stalled_s = 0.0
        # Tokens per second that one replica computed while requests waited; or more, if seen since.
        self._capacity: float | None = None
        self._needs: deque[tuple[float, _Need]] = deque()

    def take(
        self, reading: Reading, bounds: ReplicaRange, goals: Goals, now_s: float
    ) -> Decision | None:
        """Decide on what a window says; None where all stays as it is.

        Args:
            reading: the window that ends now.
            bounds: fewest and most replicas.
            goals: what to keep.
            now_s: a reading of a monotonic clock.
        """
        if reading.num_serving == 0:
            # It loads or restarts, which says nothing of how many are needed.
            self._num_short, self._stalled_s = 0, 0.0
            return None
        is_steady = reading.num_serving == self._num_served_before
        self._num_served_before = reading.num_serving
        is_stalled = reading.num_waiting > 0 and not reading.num_begun
        self._stalled_s = self._stalled_s + reading.span_s if is_stalled else 0.0
        shortage = _find_shortage(reading, goals, self._stalled_s)
        if is_steady:
            self._learn(reading, is_short=shortage is not None)
        else:
            # One that came or left within the window has not worked for all of it.
            self._num_short = 0
        if shortage is not None:
            return self._take_shortage(shortage, reading, bounds, goals, now_s)
        self._num_short = 0
        self._note(_find_need(reading, self._capacity), goals, now_s)
        return self._shrink(reading, bounds, goals, now_s)

    def _take_shortage(
        self, shortage: _Need, reading: Reading, bounds: ReplicaRange, goals: Goals, now_s: float
    ) -> Decision | None:
        self._num_short += 1
        count = max(reading.num_wanted, bounds.clamp(shortage.count))
        self._note(_Need(count, shortage.why), goals, now_s)
        if self._num_short < NUM_WINDOWS_TO_GROW:
            return None
        if count > reading.num_wanted:
            self._num_short = 0
            return Decision(direction=Direction.UP, count=count, rationale=shortage.why)
        if shortage.count > bounds.most:
            why = f"{bounds.most} are the most that may be: {shortage.why}"
            return Decision(direction=Direction.HELD, count=count, rationale=why)
        # Those that were asked for are still to come.
        return None

    def _shrink(
        self, reading: Reading, bounds: ReplicaRange, goals: Goals, now_s: float
    ) -> Decision | None:
        first_s, _ = self._needs[0]
        if now_s - first_s < goals.quiet_s:
            return None
        busiest = max((need for _, need in self._needs), key=lambda need: need.count)
        count = bounds.clamp(busiest.count)
        if count >= reading.num_wanted:
            return None
        return Decision(
            direction=Direction.DOWN,
            count=count,
            rationale=f"for {goals.quiet_s:g} s no more were needed: at most {busiest.why}",
        )

    def _learn(self, reading: Reading, *, is_short: bool) -> None:
        each = reading.tokens_per_s / reading.num_serving
        if is_short and reading.num_begun and each:
            self._capacity = each
        elif self._capacity is not None:
            self._capacity = max(self._capacity, each)

    def _note(self, need: _Need, goals: Goals, now_s: float) -> None:
        """Remember what a window needed, and one window that is older than the quiet time."""
        self._needs.append((now_s, need))
        while len(self._needs) > 1 and now_s - self._needs[1][0] >= goals.quiet_s:
            self._needs.popleft()


def _find_shortage(reading: Reading, goals: Goals, stalled_s: float) -> _Need | None:
    """Return how many replicas are needed where there are too few; None where there are not."""
    num_serving = reading.num_serving
    if reading.num_present <= num_serving:
        # Another one would have nothing to do.
        return None
    wait_s = stalled_s or reading.wait_s
    if wait_s > goals.target_wait_s:
        return _Need(_count_for_arrivals(reading), _tell_wait(reading, goals, wait_s))
    if reading.kv_use_ratio is not None and reading.kv_use_ratio >= FULL_KV_RATIO:
        why = f"{reading.kv_use_ratio:.0%} of the KV memory of {_name(num_serving)} is in use"
        return _Need(num_serving + 1, why)
    return None


def _count_for_arrivals(reading: Reading) -> int:
    """Return how many replicas begin what comes, and soon what waits; at most twice as many."""
    num_serving = reading.num_serving
    if not reading.num_begun:
        return num_serving + 1
    num_to_begin = reading.num_arrived + reading.num_waiting_now * reading.span_s / CATCH_UP_S
    count = math.ceil(num_serving * num_to_begin / reading.num_begun)
    return max(num_serving + 1, min(2 * num_serving, count))


def _find_need(reading: Reading, capacity: float | None) -> _Need:
    """Return how many replicas a window without a shortage needed, with something to spare."""
    each_to_spare = SPARE_RATIO * reading.num_places
    needs = [
        _Need(
            math.ceil(reading.num_present / each_to_spare),
            f"{reading.num_present:.1f} requests at once, and a replica works on"
            f" {reading.num_places}",
        )
    ]
    if capacity is not None:
        needs.append(
            _Need(
                math.ceil(reading.tokens_per_s / (SPARE_RATIO * capacity)),
                f"{reading.tokens_per_s:.0f} tokens/s, and a replica computes {capacity:.0f}",
            )
        )
    if reading.kv_use_ratio is not None:
        needs.append(
            _Need(
                math.ceil(reading.num_serving * reading.kv_use_ratio / SPARE_RATIO),
                f"{reading.kv_use_ratio:.0%} of the KV memory of {_name(reading.num_serving)}",
            )
        )
    return max(needs, key=lambda need: need.count)


def _tell_wait(reading: Reading, goals: Goals, wait_s: float) -> str:
    span_s = reading.span_s
    return (
        f"{reading.num_waiting:.1f} requests wait {wait_s:.1f} s each and {goals.target_wait_s:g} s"
        f" are allowed; per second {reading.num_arrived / span_s:.2g} come and"
        f" {reading.num_begun / span_s:.2g} begin on {_name(reading.num_serving)};"
        f" {reading.num_queued_tokens} tokens are queued there"
    )


def _name(num_replicas: int) -> str:
    return f"{num_replicas} replica{'' if num_replicas == 1 else 's'}"
