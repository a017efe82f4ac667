"""How long to wait before a worker that keeps failing is started again: a pure rule."""

from __future__ import annotations

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0
"""A worker that lived so long is no longer counted as failing in a row."""


def restart_delay_s(num_failures: int) -> float:
    """Return seconds to wait after so many failures in a row: 0.5, doubling, at most 30."""
    if num_failures < 1:
        return 0.0
    return float(min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(num_failures - 1, 16)))
