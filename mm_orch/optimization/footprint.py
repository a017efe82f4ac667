"""How much memory there is for models, and how much a worker takes: measured, not reckoned."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

_DEFAULT_SHARE = 0.8
_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_CGROUP = Path("/sys/fs/cgroup")


def measure_bytes(pid: int) -> int:
    """Return the memory of a process and everything it has started; 0 when it is gone.

    Pages that several processes share count for each with its part (PSS), where the system says.
    """
    return sum(_bytes_of(member) for member in _members_of(pid))


def find_members(pid: int) -> tuple[int, ...]:
    """Return the ids of a process and everything it has started; none when it is gone."""
    return tuple(member.pid for member in _members_of(pid))


def find_budget_bytes(configured_mb: int | None) -> int:
    """Return the memory for all models together: as configured, else 80% of what is free."""
    if configured_mb is not None:
        return configured_mb << 20
    return int(_DEFAULT_SHARE * min(psutil.virtual_memory().available, _container_bytes()))


def _members_of(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _bytes_of(process: psutil.Process) -> int:
    try:
        told = process.memory_full_info()
        return int(getattr(told, "pss", 0) or told.uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _container_bytes() -> float:
    """Return the memory that this process's container may use; infinite outside of one."""
    for name in _CGROUP_LIMITS:
        try:
            text = (_CGROUP / name).read_text().strip()
        except OSError as error:
            logger.debug("no memory limit of a container: %s", error)
            continue
        if text.isdigit():
            return float(text)
    return float("inf")
