"""Tells which wall time a reading of the monotonic clock was."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.clock import Clock

_NS = 1_000_000_000
# A clock that was set, or that stood still while the computer slept, is off by more than this.
_MAX_ERROR_NS = _NS


class Epoch:
    """One offset for all readings, so that spans keep their order and their lengths.

    Args:
        clock: whose readings are asked about.
        wall_ns: nanoseconds since 1970.
    """

    def __init__(
        self, clock: Clock = time.monotonic, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._clock = clock
        self._wall_ns = wall_ns
        self._offset_ns = self._read()

    def ns_of(self, reading_s: float) -> int:
        """Return nanoseconds since 1970."""
        return self._offset_ns + nanoseconds(reading_s)

    def correct(self) -> None:
        """Take a new offset if the two clocks have parted."""
        offset_ns = self._read()
        if abs(offset_ns - self._offset_ns) > _MAX_ERROR_NS:
            self._offset_ns = offset_ns

    def _read(self) -> int:
        return self._wall_ns() - nanoseconds(self._clock())


def nanoseconds(seconds: float) -> int:
    """Return the nearest whole number of nanoseconds."""
    return round(seconds * _NS)
