"""Who goes before whom: priority, and how waiting makes up for a lack of it.

A request of priority p ranks as if it had come ``p * AGEING_S`` seconds earlier. Two that wait grow
old alike, so their order never changes, and whoever comes ``(MAX_PRIORITY - p) * AGEING_S`` later
ranks behind, whatever its priority: nothing starves.
"""

from __future__ import annotations

MIN_PRIORITY = -10
MAX_PRIORITY = 10
AGEING_S = 30.0
"""Waiting so long is worth one level of priority."""


def rank_s(priority: int, since_s: float) -> float:
    """Return the moment by which those that wait are ordered: the least goes first.

    Args:
        priority: higher goes first.
        since_s: when it began to wait.
    """
    return since_s - priority * AGEING_S
