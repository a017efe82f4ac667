"""Taking turns at the cores, with real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.workers.lease import CoreLease

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[3]

# Writes B and E, begin and end of what it does under the lease, to a file that all share.
_TAKE_TURNS = """
import os, sys
from mm_orch.workers.lease import CoreLease
lease = CoreLease(sys.argv[1])
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
sys.stdin.readline()
for _ in range(300):
    with lease.held():
        os.write(log, sys.argv[3].encode())
        sum(range(2000))
        os.write(log, sys.argv[3].lower().encode())
"""
_DIE_WITH_IT = """
import os, signal, sys
from mm_orch.workers.lease import CoreLease
with CoreLease(sys.argv[1]).held():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start it; it begins when its standard input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, cwd=ROOT
    )


def test_two_workers_never_compute_at_the_same_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    workers = [start(_TAKE_TURNS, tmp_path, log, name) for name in "AB"]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    assert [worker.wait(60) for worker in workers] == [0, 0]

    told = log.read_text()
    assert len(told) == 2 * 300 * 2
    # Each begin is followed by its own end: nothing of the other's lies between.
    assert all(told[at : at + 2] in {"Aa", "Bb"} for at in range(0, len(told), 2))


def test_the_lease_of_a_worker_that_dies_is_free(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", _DIE_WITH_IT, tmp_path], cwd=ROOT, check=False)
    assert dead.returncode == -9

    with CoreLease(str(tmp_path)).held():
        pass


def test_a_worker_that_keeps_it_does_not_stop_the_others_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_orch.workers.lease._PATIENCE_S", 0.05)
    order = []
    with CoreLease(str(tmp_path)).held():
        order.append("keeps it")
        with CoreLease(str(tmp_path)).held():
            order.append("goes on without")

    assert order == ["keeps it", "goes on without"]


def test_without_a_directory_there_are_no_turns() -> None:
    with CoreLease("").held(), CoreLease("").held():
        pass
