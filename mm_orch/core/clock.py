"""Where durations come from, so that loops can be tested with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns monotonic seconds; ``time.monotonic`` in production."""
