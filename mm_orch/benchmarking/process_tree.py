"""What a process and those it has started take, as Linux tells; elsewhere nothing is known."""

from __future__ import annotations

import os
import re
from pathlib import Path

_PROC = Path("/proc")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_KIB = 1024
# Fields of /proc/PID/stat after the name in brackets (proc(5), where they count from 3).
_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12


def peak_memory_bytes(pid: int) -> int | None:
    """Return the sum of each living process's own largest resident memory.

    Pages that two of them share count twice, and the peaks need not have been at one time, so
    this is an upper bound. None where the system does not tell.
    """
    peaks = [match[1] for p in _tree(pid) if (match := _PEAK.search(_read(p / "status")))]
    return sum(int(peak) * _KIB for peak in peaks) if peaks else None


def cpu_s(pid: int) -> float:
    """Return the processor time of the living processes of the tree; 0 where it is not told."""
    if not _PROC.is_dir():
        return 0.0
    ticks = 0
    for folder in _tree(pid):
        fields = _stat(folder)
        if fields:
            ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ticks / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> list[Path]:
    children: dict[str, list[str]] = {}
    for folder in _PROC.glob("[0-9]*"):
        fields = _stat(folder)
        if fields:
            children.setdefault(fields[_PARENT], []).append(folder.name)
    found = [str(pid)]
    for name in found:
        found += children.get(name, [])
    return [_PROC / name for name in found]


def _stat(folder: Path) -> list[str]:
    # The name may hold spaces and brackets; the last bracket ends it.
    return _read(folder / "stat").rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""
