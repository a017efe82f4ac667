"""How many cores there are for models: those of this process, within its container's quota."""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

_CGROUP = Path("/sys/fs/cgroup")


def count_usable_cores(*, root: Path = _CGROUP) -> int:
    """Return how many cores this process may keep busy; at least one.

    A container's CPU limit hides no core: with a thread for each that is seen, the kernel stops
    them all for most of each period. So a limit counts, rounded down: of threads that wait for
    each other at every layer, one that is stopped stops the others.

    Args:
        root: where the files of the process's control group are.
    """
    if hasattr(os, "sched_getaffinity"):
        num_cores = len(os.sched_getaffinity(0))
    else:
        num_cores = os.cpu_count() or 1
    return max(1, int(min(num_cores, _find_quota(root))))


def find_usable_cores() -> tuple[int, ...]:
    """Return the numbers of the cores that there are for models: as many as may be kept busy."""
    count = count_usable_cores()
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0))[:count])
    return tuple(range(count))


def _find_quota(root: Path) -> float:
    """Return the cores' worth of time that the control group may use; infinite without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / name).read_text() for name in names).split()
        except (OSError, ValueError) as error:
            logger.debug("no CPU limit of a container: %s", error)
            continue
        # "max", or -1, is no limit.
        if quota.isdigit() and period.isdigit():
            return int(quota) / max(1, int(period))
    return float("inf")
