"""What a full house would take: every place in the batch and in the queue taken.

latency = the wait behind a full queue, at the rate of full batches
        + the service of one request, at the pace of full batches

Both are reckoned from what is seen at the load there is, so that a setting which cannot keep the
target is left before the load comes that would show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import BATCH_SIZE

if TYPE_CHECKING:
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading, StepCosts

_MIN_BUSY = 0.05


@dataclass(frozen=True, slots=True)
class FullHouse:
    """Service time and rate with all places taken."""

    service_s: float
    requests_per_s: float

    def wait_s(self, queue_capacity: int) -> float:
        """Return how long the last of a full queue waits."""
        return queue_capacity / self.requests_per_s

    def find_queue(self, limit_s: float) -> int:
        """Return how many may wait so that the last one is answered within so many seconds."""
        return int((limit_s - self.service_s) * self.requests_per_s)


def forecast(reading: Reading, setting: Setting, costs: StepCosts | None) -> FullHouse | None:
    """Return what a full house would take, or None where too little is known.

    Args:
        reading: a window with traffic.
        setting: for which it is reckoned.
        costs: of steps; without them a full batch is taken to be no faster and no slower.
    """
    batch_size = reading.batch_size_mean
    if (
        batch_size is None
        or reading.service_p95_s is None
        or not reading.num_succeeded
        or reading.busy_ratio < _MIN_BUSY
    ):
        return None
    requests_per_s = reading.num_succeeded / reading.span_s / reading.busy_ratio
    full = setting.get(BATCH_SIZE)
    if costs is None or full is None:
        return FullHouse(reading.service_p95_s, requests_per_s)
    stretch = costs.step_s(full) / costs.step_s(batch_size)
    return FullHouse(
        service_s=reading.service_p95_s * stretch,
        requests_per_s=requests_per_s * full / batch_size / stretch,
    )
