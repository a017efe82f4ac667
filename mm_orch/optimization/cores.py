"""How many cores there are for models: those of this process, within its control groups' quota."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from mm_orch.core import control_groups
from mm_orch.core.control_groups import find_group_folders

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.core.control_groups import GroupFolder

logger = logging.getLogger(__name__)


def count_usable_cores(
    *, membership: Path = control_groups.MEMBERSHIP, root: Path = control_groups.ROOT
) -> int:
    """Return how many cores this process may keep busy; at least one.

    The limit of a container or a service hides no core: with a thread for each that is seen, the
    kernel stops them all for most of each period. So a limit counts, rounded down: of threads that
    wait for each other at every layer, one that is stopped stops the others.

    Args:
        membership: names the control groups of this process, as in cgroups(7).
        root: where the groups' folders are.
    """
    if hasattr(os, "sched_getaffinity"):
        num_cores = len(os.sched_getaffinity(0))
    else:
        num_cores = os.cpu_count() or 1
    return max(1, int(min(num_cores, _find_quota(membership, root))))


def find_usable_cores() -> tuple[int, ...]:
    """Return the numbers of the cores that there are for models: as many as may be kept busy."""
    count = count_usable_cores()
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0))[:count])
    return tuple(range(count))


def _find_quota(membership: Path, root: Path) -> float:
    """Return the cores' worth of time that all control groups allow; infinite without a limit."""
    folders = find_group_folders("cpu", membership=membership, root=root)
    return min((_read_quota(one) for one in folders), default=float("inf"))


def _read_quota(group: GroupFolder) -> float:
    names = ("cpu.max",) if group.is_v2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = " ".join((group.path / name).read_text() for name in names).split()
    except (OSError, ValueError) as error:
        logger.debug("no CPU limit of a control group: %s", error)
        return float("inf")
    # "max", or -1, is no limit.
    if quota.isdigit() and period.isdigit():
        return int(quota) / max(1, int(period))
    return float("inf")
