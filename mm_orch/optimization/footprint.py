"""How much memory there is for models, and how much a worker takes: measured, not reckoned."""

from __future__ import annotations

import psutil

from mm_orch.core.memory import read_memory

_DEFAULT_SHARE = 0.8


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
    memory = read_memory()
    free_bytes = min(memory.total_bytes - memory.used_bytes, psutil.virtual_memory().available)
    return int(_DEFAULT_SHARE * free_bytes)


def _members_of(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _bytes_of(process: psutil.Process) -> int:
    try:
        try:
            told = process.memory_full_info()
        except psutil.AccessDenied:
            return int(process.memory_info().rss)
        return int(getattr(told, "pss", 0) or told.uss)
    except psutil.Error:
        return 0
