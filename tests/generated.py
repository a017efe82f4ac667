"""Whether files that scripts make of the code are up to date."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run_check(script: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Have a script say which of its files differ from what it would write.

    Args:
        script: its path from the root.
        root: of the repository, or of a copy.
    """
    command = [sys.executable, script, "--check"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
