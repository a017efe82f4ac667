"""How long after a change windows still hold requests from before it."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import QUEUE_CAPACITY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.load import Load
    from mm_orch.tuning.readings import Reading

_MAX_SETTLING = 3
# A queue that was cut short is still as long as it was.
_MAX_DRAINING = 6
_MAX_ASIDE = 4


class SettledWindows:
    """The last windows that tell of the setting in force alone, at the load there is.

    Those of a load that goes are put aside, and taken up again when it returns to the same
    setting: of a load that changes every few windows there are never many in a row.

    Args:
        max_windows: that are kept.
    """

    def __init__(self, max_windows: int) -> None:
        self._max_windows = max_windows
        self._readings: deque[Reading] = deque(maxlen=max_windows)
        self._num_settling = 0
        self._aside: deque[tuple[Load, tuple[Reading, ...]]] = deque(maxlen=_MAX_ASIDE)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The windows, the oldest first."""
        return tuple(self._readings)

    @property
    def is_settling(self) -> bool:
        """Whether windows are still to come that tell of what was before as well."""
        return self._num_settling > 0

    @property
    def max_windows(self) -> int:
        """Most windows that are kept."""
        return self._max_windows

    def keep_at_most(self, max_windows: int) -> None:
        """Keep so many from now on, the newest."""
        if max_windows != self._max_windows:
            self._max_windows = max_windows
            self._readings = deque(self._readings, max_windows)

    def take(self, reading: Reading, *, is_telling: bool) -> bool:
        """Take a window in; return whether it tells of the setting in force alone."""
        if self._num_settling:
            self._num_settling -= 1
            return False
        if is_telling:
            self._readings.append(reading)
        return True

    def start_over(self, num_settling: int, known: Sequence[Reading] = ()) -> None:
        """Begin with another setting, of which these windows are known."""
        self._aside.clear()
        self._readings.clear()
        self._readings.extend(known)
        self._num_settling = num_settling

    def turn_to(self, load: Load, before: Load) -> None:
        """Begin with another load; the window that shows it is partly of the one before."""
        if self._readings:
            self._aside.append((before, self.readings))
        again = next((one for one in self._aside if one[0].is_near(load)), None)
        self._readings.clear()
        if again is not None:
            self._aside.remove(again)
            self._readings.extend(again[1])
        self._num_settling = 1


def count_settling(reading: Reading) -> int:
    """Return how many windows will hold requests that came before a change."""
    return min(_MAX_SETTLING, max(1, math.ceil((reading.latency_p50_s or 0) / reading.span_s)))


def count_draining(reading: Reading, new: Setting) -> int:
    """Return the same for a change that may leave more waiting than there are places for."""
    num_left = reading.num_waiting - new.get(QUEUE_CAPACITY, math.inf)
    if num_left <= 0 or not reading.num_succeeded:
        return count_settling(reading)
    drain_s = num_left * reading.span_s / reading.num_succeeded
    latency_s = drain_s + (reading.latency_p50_s or 0)
    return min(_MAX_DRAINING, max(1, math.ceil(latency_s / reading.span_s)))
