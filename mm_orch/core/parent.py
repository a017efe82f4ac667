"""Ties a process's life to that of the process that started it."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent, even while no Python code can run.

    On Linux alone. A thread that waits for the parent needs the interpreter lock, which a stuck
    kernel of an engine may hold for ever.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
