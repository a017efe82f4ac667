from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.core.memory import Memory, find_group_memory, read_memory

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
NO_LIMIT_V1 = 9223372036854771712


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "groups"


def write_v2(folder: Path, limit: int | str, used: int, *, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")


def write_v1(folder: Path, limit: int, used: int, *, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 1\ntotal_inactive_file {inactive}\n")


def test_a_container_of_version_2_sees_its_group_as_the_root(membership: Path, root: Path) -> None:
    membership.write_text("0::/\n")
    write_v2(root, 100 * MIB, 70 * MIB, inactive=20 * MIB)

    assert find_group_memory(membership, root) == Memory(50 * MIB, 100 * MIB)


def test_the_tightest_of_the_groups_above_counts(membership: Path, root: Path) -> None:
    membership.write_text("0::/service/worker\n")
    write_v2(root / "service/worker", "max", 10 * MIB)
    write_v2(root / "service", 200 * MIB, 30 * MIB)

    assert find_group_memory(membership, root) == Memory(30 * MIB, 200 * MIB)


def test_a_container_of_version_1_has_a_path_that_is_not_there(
    membership: Path, root: Path
) -> None:
    membership.write_text("9:name=systemd:/\n4:cpu,memory:/docker/0123\n0::/\n")
    write_v1(root / "memory", 100 * MIB, 60 * MIB, inactive=5 * MIB)

    assert find_group_memory(membership, root) == Memory(55 * MIB, 100 * MIB)


@pytest.mark.parametrize(
    "lines", ["", "0::/\n", "5:cpuset:/\n4:memory:/a\n0::/\n", "what is this\n"]
)
def test_without_limits_there_is_no_group(membership: Path, root: Path, lines: str) -> None:
    membership.write_text(lines)

    assert find_group_memory(membership, root) is None


def test_a_system_without_groups_has_none(tmp_path: Path) -> None:
    assert find_group_memory(tmp_path / "none", tmp_path) is None


def test_files_that_make_no_sense_are_no_limit(membership: Path, root: Path) -> None:
    membership.write_text("0::/\n")
    write_v2(root, 100 * MIB, 1)
    (root / "memory.stat").write_text("anon\n")

    assert find_group_memory(membership, root) is None


def test_a_limit_that_no_machine_reaches_gives_the_machine(membership: Path, root: Path) -> None:
    membership.write_text("4:memory:/\n")
    write_v1(root / "memory", NO_LIMIT_V1, 60 * MIB)

    read = read_memory(membership=membership, root=root)
    assert read.total_bytes == psutil.virtual_memory().total
    assert 0 < read.used_bytes < read.total_bytes


def test_a_limit_below_the_machine_counts(membership: Path, root: Path) -> None:
    membership.write_text("0::/\n")
    write_v2(root, 64 * MIB, 32 * MIB)

    assert read_memory(membership=membership, root=root) == Memory(32 * MIB, 64 * MIB)
