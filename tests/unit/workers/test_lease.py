"""Taking turns at the cores, with real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.workers.lease import CoreLease, find_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

ROOT = Path(__file__).parents[3]

# Writes B and E, begin and end of what it does under the lease, to a file that all share.
_TAKE_TURNS = """
import os, sys
from mm_orch.workers.lease import CoreLease
lease = CoreLease(sys.argv[1], [int(core) for core in sys.argv[4:]])
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
sys.stdin.readline()
for _ in range(300):
    with lease.held():
        os.write(log, sys.argv[3].encode())
        sum(range(2000))
        os.write(log, sys.argv[3].lower().encode())
"""
# Holds it until the other one, whose letter comes last, has begun as well.
_MEET = """
import os, sys, time
from pathlib import Path
from mm_orch.workers.lease import CoreLease
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
with CoreLease(sys.argv[1], [int(sys.argv[3])]).held():
    os.write(log, sys.argv[3].encode())
    end_s = time.monotonic() + 4
    while sys.argv[4] not in Path(sys.argv[2]).read_text():
        if time.monotonic() > end_s:
            sys.exit(f"{sys.argv[4]} did not begin")
        time.sleep(0.001)
"""
_KEEP_IT = """
import sys
from mm_orch.workers.lease import CoreLease
with CoreLease(sys.argv[1]).held():
    print("held", flush=True)
    sys.stdin.readline()
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
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )


def finish(*workers: subprocess.Popen[bytes]) -> list[int]:
    """Let them begin, and return their exit codes."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    for worker in workers:
        worker.wait(60)
        assert worker.stdout is not None
        worker.stdout.close()
    return [worker.returncode for worker in workers]


def _as_arguments(shares: Mapping[str, Sequence[int]]) -> list[tuple[str | int, ...]]:
    return [(name, *cores) for name, cores in shares.items()]


def test_two_workers_never_compute_at_the_same_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    assert finish(*(start(_TAKE_TURNS, tmp_path, log, name) for name in "AB")) == [0, 0]

    told = log.read_text()
    assert len(told) == 2 * 300 * 2
    # Each begin is followed by its own end: nothing of the other's lies between.
    assert all(told[at : at + 2] in {"Aa", "Bb"} for at in range(0, len(told), 2))


def test_whoever_has_all_cores_computes_alone_between_those_that_have_some(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    shares = {"A": [0], "B": [1, 3], "C": []}
    codes = finish(*(start(_TAKE_TURNS, tmp_path, log, *one) for one in _as_arguments(shares)))
    assert codes == [0, 0, 0]

    told = log.read_text()
    assert len(told) == 3 * 300 * 2
    # Nobody has begun and not ended where C begins, and none begins before it ends.
    for at in (at for at, letter in enumerate(told) if letter == "C"):
        assert told[at + 1] == "c"
        assert all(told[:at].count(name) == told[:at].count(name.lower()) for name in "AB")


def test_shares_without_a_common_core_compute_at_the_same_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    assert finish(start(_MEET, tmp_path, log, 0, 1), start(_MEET, tmp_path, log, 1, 0)) == [0, 0]


def test_cores_are_locked_in_runs_of_neighbours() -> None:
    assert list(find_ranges([7, 0, 1, 2, 5, 6, 9])) == [(0, 3), (5, 3), (9, 1)]
    assert list(find_ranges([])) == []


def test_the_lease_of_a_worker_that_dies_is_free(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", _DIE_WITH_IT, tmp_path], cwd=ROOT, check=False)
    assert dead.returncode == -9

    with CoreLease(str(tmp_path)).held():
        pass


def test_a_worker_that_keeps_it_does_not_stop_the_others_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mm_orch.workers.lease._PATIENCE_S", 0.05)
    keeper = start(_KEEP_IT, tmp_path)
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == b"held\n"
    lease = CoreLease(str(tmp_path))

    with caplog.at_level("WARNING"), lease.held():
        pass

    assert "going on without" in caplog.text
    assert finish(keeper) == [0]


def test_without_a_directory_there_are_no_turns() -> None:
    with CoreLease("").held(), CoreLease("").held():
        pass
