"""Lets the workers of a server take turns at the cores, a step at a time.

Two pools of threads that share cores, computing at once, slow each other down by ten times and
more. So a step is computed while holding the lease of all cores that its worker's pool has: those
of one that was given a share of its own are free while another share computes.

    turnstile   who wants the lease waits here; one that has just had it waits behind the others
    cores       a byte a core; a worker's are locked while it computes a step
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

logger = logging.getLogger(__name__)

# A worker that hangs in its step holds the lease until the watchdog kills it: wait no longer than
# this for a turn, for waiting must not look like hanging.
_PATIENCE_S = 5.0


class CoreLease:
    """The lease, as one worker holds it; the kernel frees it when the worker dies.

    A process has one: such locks keep two processes apart, not two of its own parts.

    Args:
        directory: the same for all workers that share cores; empty for no turns.
        cores: numbers of those that the worker computes on; empty for all.
    """

    def __init__(self, directory: str, cores: Sequence[int] = ()) -> None:
        self._files: list[int] = []
        # One length for each run of neighbours; 0 is up to the last core, however many there are.
        self._ranges = list(find_ranges(cores)) or [(0, 0)]
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
        if not self._lock_at_once(turnstile, cores):
            self._lock_patiently(turnstile, cores)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._lock_cores(cores, fcntl.LOCK_UN)

    def _lock_at_once(self, turnstile: int, cores: int) -> bool:
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock_cores(cores, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock_patiently(self, turnstile: int, cores: int) -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
            # Locking what is held already changes nothing.
            fcntl.flock(turnstile, fcntl.LOCK_EX)
            self._lock_cores(cores, fcntl.LOCK_EX)
        except TimeoutError:
            logger.warning("no turn at the cores within %g s: going on without", _PATIENCE_S)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _lock_cores(self, cores: int, how: int) -> None:
        # Only who holds the turnstile locks, so nobody waits for another's cores holding some.
        for first, num_cores in self._ranges:
            fcntl.lockf(cores, how, num_cores, first)


def find_ranges(cores: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first core and the length of each run of neighbours."""
    for _, run in itertools.groupby(enumerate(sorted(cores)), lambda pair: pair[1] - pair[0]):
        members = [core for _, core in run]
        yield members[0], len(members)


def _raise_timeout(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TimeoutError
