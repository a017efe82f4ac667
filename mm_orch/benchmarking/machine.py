"""What a benchmark ran on: processor, memory, system, and the versions of libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

_CPU_INFO = Path("/proc/cpuinfo")
_GIB = 1 << 30


def describe_machine() -> str:
    """Return processor, cores, memory, system and the Python version of this machine."""
    parts = (
        cpu_name(),
        f"{os.cpu_count()} cores",
        f"{psutil.virtual_memory().total / _GIB:.0f} GiB",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
    )
    return ", ".join(parts)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of these distributions that are installed here."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
