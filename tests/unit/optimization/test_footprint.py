"""What processes take: of those too that end while they are looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import psutil

from mm_orch.optimization.footprint import find_members, measure_bytes

if TYPE_CHECKING:
    import pytest

WAIT = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_a_process_takes_what_it_has_and_one_that_is_gone_takes_nothing() -> None:
    assert measure_bytes(os.getpid()) > 0
    with subprocess.Popen(WAIT, stdin=subprocess.PIPE) as process:
        assert find_members(process.pid) == (process.pid,)

    assert measure_bytes(process.pid) == 0
    assert find_members(process.pid) == ()


def test_a_process_that_ends_while_it_is_measured_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(WAIT, stdin=subprocess.PIPE) as process:

        def refuse(_: psutil.Process) -> NoReturn:
            process.kill()
            process.wait()
            raise psutil.AccessDenied

        monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)

        assert measure_bytes(process.pid) == 0
