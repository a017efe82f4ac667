"""How many per second over the last minute, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock

WINDOW_S = 60
_SLOT_S = 1.0


class SlidingRate:
    """Counts in slots of a second; slots older than the window are forgotten.

    A rate that is younger than the window is taken over its own age, so that the first minute
    does not look slower than it is.

    Args:
        clock: says when something happens.
        window_s: whole seconds that the rate is taken over.
        begin_s: since when it could have happened; None is now.
    """

    def __init__(
        self, clock: Clock, window_s: int = WINDOW_S, *, begin_s: float | None = None
    ) -> None:
        self._clock = clock
        self._window_s = window_s
        self._begin_s = clock() if begin_s is None else begin_s
        self._slots: deque[tuple[int, int]] = deque()

    def add(self, count: int) -> None:
        """Count what has happened now."""
        slot = self._slot_now()
        if self._slots and self._slots[-1][0] == slot:
            count += self._slots.pop()[1]
        self._slots.append((slot, count))
        self._forget(slot)

    def per_second(self) -> float:
        """Return the mean rate of the window."""
        self._forget(self._slot_now())
        age_s = max(_SLOT_S, self._clock() - self._begin_s)
        return self._sum() / min(age_s, self._window_s)

    def total(self) -> int:
        """Return the sum of what the window holds."""
        self._forget(self._slot_now())
        return self._sum()

    def _sum(self) -> int:
        return sum(count for _, count in self._slots)

    def _slot_now(self) -> int:
        return int((self._clock() - self._begin_s) // _SLOT_S)

    def _forget(self, slot: int) -> None:
        while self._slots and self._slots[0][0] <= slot - self._window_s:
            self._slots.popleft()
