from __future__ import annotations

import pytest

from mm_orch.monitoring.tracing.epoch import Epoch
from tests.unit.monitoring.clock import StillClock

WALL_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("slept_ns", "is_corrected"), [(0, False), (900_000_000, False), (3_600_000_000_000, True)]
)
def test_a_computer_that_slept_is_noticed_and_drift_is_not(
    slept_ns: int,
    is_corrected: bool,  # noqa: FBT001 - from the table
) -> None:
    clock, wall_ns = StillClock(), [WALL_NS]
    epoch = Epoch(clock, lambda: wall_ns[0])
    assert epoch.ns_of(clock.now_s + 0.5) == WALL_NS + 500_000_000

    wall_ns[0] += slept_ns
    epoch.correct()

    assert epoch.ns_of(clock.now_s) == WALL_NS + (slept_ns if is_corrected else 0)
