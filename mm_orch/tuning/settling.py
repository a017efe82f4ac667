"""How long after a change windows still hold requests from before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import QUEUE_CAPACITY

if TYPE_CHECKING:
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading

_MAX_SETTLING = 3
# A queue that was cut short is still as long as it was.
_MAX_DRAINING = 6


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
