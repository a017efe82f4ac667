"""How much memory there is and is used: of the machine, or of the container that limits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from mm_orch.core import control_groups
from mm_orch.core.control_groups import find_group_folders

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """What is used and what there is."""

    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class _Files:
    """What the files of one version of control groups are called."""

    limit: str
    usage: str
    reclaimable: str


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def read_memory(
    *, membership: Path = control_groups.MEMBERSHIP, root: Path = control_groups.ROOT
) -> Memory:
    """Return the machine's memory, or that of the tightest control group above this process.

    What is used leaves out what would be given back at need, such as cached files.

    Args:
        membership: names the groups of this process, as in cgroups(7).
        root: where the groups' folders are.
    """
    machine = psutil.virtual_memory()
    total_bytes = int(machine.total)
    found = find_group_memory(membership, root)
    # A group without a limit has one that no machine reaches.
    if found is not None and found.total_bytes < total_bytes:
        return found
    return Memory(total_bytes - int(machine.available), total_bytes)


def find_group_memory(membership: Path, root: Path) -> Memory | None:
    """Return the memory of the group with the least limit, or None outside of any."""
    folders = find_group_folders("memory", membership=membership, root=root)
    limited = [
        memory
        for one in folders
        if (memory := _read_group(one.path, _V2 if one.is_v2 else _V1)) is not None
    ]
    return min(limited, key=lambda memory: memory.total_bytes, default=None)


def _read_group(folder: Path, files: _Files) -> Memory | None:
    try:
        limit = (folder / files.limit).read_text().strip()
        if not limit.isdigit():
            return None
        used_bytes = int((folder / files.usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return Memory(max(0, used_bytes - int(stat.get(files.reclaimable, 0))), int(limit))
