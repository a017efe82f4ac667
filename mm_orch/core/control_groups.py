"""The control groups that limit this process: a container's, or those of a service of systemd."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMBERSHIP = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class GroupFolder:
    """A group's folder.

    Attributes:
        is_v2: of the second version, whose files have other names.
    """

    path: Path
    is_v2: bool


def find_group_folders(controller: str, *, membership: Path, root: Path) -> Iterator[GroupFolder]:
    """Yield the folders of this process's groups and of those above them, there or not.

    A container often sees its own group's folder as the root, under the path that it has outside.

    Args:
        controller: what is limited, such as ``memory`` or ``cpu``.
        membership: names the groups of a process, as in cgroups(7).
        root: where the groups' folders are.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, is_v2 = root, True
        elif controller in controllers.split(","):
            top, is_v2 = root / controller, False
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for part in (inside, *inside.parents):
            yield GroupFolder(top / part, is_v2)
