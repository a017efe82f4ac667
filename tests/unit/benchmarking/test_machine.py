from __future__ import annotations

import importlib.metadata
import os

from mm_orch.benchmarking.machine import describe_machine, installed_versions


def test_a_machine_is_described_by_what_decides_its_speed() -> None:
    described = describe_machine()

    assert f"{os.cpu_count()} cores" in described
    assert " GiB, " in described
    assert "Python 3." in described


def test_versions_are_of_what_is_installed_alone() -> None:
    versions = installed_versions(("msgspec", "no-such-distribution"))

    assert versions == {"msgspec": importlib.metadata.version("msgspec")}
