"""Starts a process that writes and says what it has written, and kills it at any moment."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.processes import ROOT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path


def write_and_kill(
    module: str, path: Path, run: int, *, num_lines: int, delay_s: float
) -> list[str]:
    """Kill a writer after so many lines and a delay; return the whole lines that it has written.

    Args:
        module: of the writer.
        path: of the file that it writes.
        run: its number.
        num_lines: that are waited for.
        delay_s: after them.
    """
    command = [sys.executable, "-m", module, str(path), str(run)]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(num_lines)]
        # Waits for nothing: it is what makes the moment a random one.
        time.sleep(delay_s)
        writer.kill()
        lines += writer.stdout.readlines()
    # The last one may be cut off.
    return [line for line in lines if line.endswith("\n")]
