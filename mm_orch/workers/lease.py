"""Lets the workers of a server take turns at the cores, a step at a time.

Two pools of as many threads as there are cores, computing at once, slow each other down by ten
times and more. So each worker's pool has all cores, and a step is computed while holding the lease.

    turnstile   who wants the lease waits here; one that has just had it waits behind the others
    cores       held while a step is computed
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

logger = logging.getLogger(__name__)

# A worker that hangs in its step holds the lease until the watchdog kills it: wait no longer than
# this for a turn, for waiting must not look like hanging.
_PATIENCE_S = 5.0


class CoreLease:
    """The lease, as one worker holds it; the kernel frees it when the worker dies.

    Args:
        directory: the same for all workers that share cores; empty for no turns.
    """

    def __init__(self, directory: str) -> None:
        self._files: list[int] = []
        if directory:
            # Patience is measured with the timer signal, which is of no other use here.
            signal.signal(signal.SIGALRM, _raise_timeout)
            self._files = [
                os.open(Path(directory) / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                for name in ("turnstile", "cores")
            ]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait for a turn and keep it; after a while without one, go on without."""
        if not self._files:
            yield
            return
        turnstile, cores = self._files
        if not (self._lock_at_once(turnstile) and self._lock_at_once(cores)):
            self._lock_patiently(turnstile, cores)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(cores, fcntl.LOCK_UN)

    def _lock_at_once(self, file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_patiently(self, turnstile: int, cores: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
        try:
            # Locking what is held already changes nothing.
            fcntl.flock(turnstile, fcntl.LOCK_EX)
            fcntl.flock(cores, fcntl.LOCK_EX)
        except TimeoutError:
            logger.warning("no turn at the cores within %g s: going on without", _PATIENCE_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _raise_timeout(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TimeoutError
