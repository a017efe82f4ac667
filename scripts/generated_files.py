"""Writes files that are made from code, or says which are not up to date."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def write_or_check(
    content_by_path: Mapping[Path, str],
    *,
    root: Path,
    reason: str,
    superfluous: Sequence[Path] = (),
) -> int:
    """Write the files that differ; with --check, only name them. Return the exit code.

    Args:
        content_by_path: what the files should hold.
        root: names are given relative to it.
        reason: what follows the name of a file that differs: "is not ...; run: ...".
        superfluous: files that no code makes any more; named by --check.
    """
    stale = [
        path
        for path, content in content_by_path.items()
        if not path.exists() or path.read_text() != content
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(root)} {reason}")
        for path in superfluous:
            print(f"{path.relative_to(root)} is made by no code: delete it, or write its code")
        return 1 if stale or superfluous else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content_by_path[path])
        print(f"wrote {path.relative_to(root)}")
    return 0
