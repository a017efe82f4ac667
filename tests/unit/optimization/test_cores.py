"""How many threads engines take, in a container too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mm_orch.optimization.cores import count_usable_cores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def count(root: Path, membership: str) -> int:
    path = root / "membership"
    path.write_text(membership)
    return count_usable_cores(membership=path, root=root)


@pytest.mark.parametrize(
    ("limit", "num_cores"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("not a limit", 8),
        ("", 8),
    ],
)
def test_a_containers_limit_counts_rounded_down(tmp_path: Path, limit: str, num_cores: int) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")

    assert count(tmp_path, "0::/\n") == num_cores


def test_the_tightest_of_the_groups_above_counts(tmp_path: Path) -> None:
    service = tmp_path / "system.slice/muai.service"
    service.mkdir(parents=True)
    (service / "cpu.max").write_text("max 100000\n")
    (tmp_path / "system.slice/cpu.max").write_text("300000 100000\n")
    (tmp_path / "cpu.max").write_text("600000 100000\n")

    assert count(tmp_path, "0::/system.slice/muai.service\n") == 3


@pytest.mark.parametrize(("quota", "num_cores"), [("-1", 8), ("200000", 2)])
def test_so_does_that_of_the_first_version_of_control_groups(
    tmp_path: Path, quota: str, num_cores: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")

    assert count(tmp_path, "4:cpu,cpuacct:/docker/0123\n0::/\n") == num_cores


def test_outside_of_a_container_it_is_the_cores_that_it_may_run_on(tmp_path: Path) -> None:
    assert count(tmp_path, "0::/\n") == 8
    assert count_usable_cores(membership=tmp_path / "none", root=tmp_path) == 8
