"""What has happened in the last minutes, in a ring of slots; older slots are forgotten."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.clock import Clock

WINDOW_S = 300.0
NUM_SLOTS = 30
# Of a window that has just begun, no rate is known: one request is not a million per second.
_MIN_SPAN_S = 1.0

Slot = TypeVar("Slot")


class SlidingWindow(Generic[Slot]):
    """A ring of at most ``num_slots`` slots, each for an equal part of the window.

    Args:
        make_slot: gives an empty slot.
        clock: monotonic seconds.
        window_s: length; the last slot is still being filled, so between this and one slot less
            is remembered.
        num_slots: parts of it.
        begin_s: since when nothing would have been missed; now when not given.
    """

    def __init__(
        self,
        make_slot: Callable[[], Slot],
        *,
        clock: Clock,
        window_s: float = WINDOW_S,
        num_slots: int = NUM_SLOTS,
        begin_s: float | None = None,
    ) -> None:
        self._make_slot = make_slot
        self._clock = clock
        self._begin_s = clock() if begin_s is None else begin_s
        self._num_slots = num_slots
        self._slot_s = window_s / num_slots
        self._slots: deque[tuple[int, Slot]] = deque(maxlen=num_slots)
        self._slot = make_slot()
        self._slot_end_s = -math.inf

    def slot_now(self) -> Slot:
        """Return the slot of this moment, to be filled."""
        # Called for each token: all that can be reckoned once a slot is.
        if self._clock() >= self._slot_end_s:
            self._open_slot()
        return self._slot

    def slots(self, over_s: float | None = None) -> list[Slot]:
        """Return the slots of the last ``over_s`` seconds, else of the whole window.

        Asking forgets what has left the window.
        """
        index = self._index_now()
        while self._slots and self._slots[0][0] <= index - self._num_slots:
            self._slots.popleft()
        first = index - self._num_of(over_s) + 1
        return [slot for at, slot in self._slots if at >= first]

    def span_s(self, over_s: float | None = None) -> float:
        """Return how many seconds :meth:`slots` covers: less than asked while it is young."""
        first = max(0, self._index_now() - self._num_of(over_s) + 1)
        return max(_MIN_SPAN_S, self._clock() - self._begin_s - first * self._slot_s)

    def _open_slot(self) -> None:
        index = self._index_now()
        # At a bound, rounding may give the old index once more.
        if not self._slots or self._slots[-1][0] != index:
            self._slot = self._make_slot()
            self._slots.append((index, self._slot))
        self._slot_end_s = self._begin_s + (index + 1) * self._slot_s

    def _index_now(self) -> int:
        return int((self._clock() - self._begin_s) / self._slot_s)

    def _num_of(self, over_s: float | None) -> int:
        if over_s is None:
            return self._num_slots
        return min(self._num_slots, max(1, math.ceil(over_s / self._slot_s)))
