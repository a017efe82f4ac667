"""The script that makes engines their environments; what it makes, make test-engines proves."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_TOOLS = {"requirements-dev.lock", "requirements-deploy.lock"}
_CLUSTER = "requirements-cluster.lock"
LOCKS = sorted({path.name for path in ROOT.glob("requirements-*.lock")} - OF_TOOLS)


def test_an_engine_without_an_environment_is_refused_with_those_that_have_one() -> None:
    result = subprocess.run(
        ["scripts/setup-engine", "warp"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert "'warp' is no engine with an environment of its own" in result.stderr
    assert "deepspeed" in result.stderr


def test_the_deepspeed_environment_has_the_torch_that_it_was_measured_with() -> None:
    pins = (ROOT / "requirements-deepspeed.lock").read_text().splitlines()

    assert {"torch==2.13.0", "deepspeed==0.19.8"} <= set(pins)


def test_servers_of_a_cluster_can_share_a_database() -> None:
    pins = {
        name: (ROOT / name).read_text().splitlines() for name in ("requirements.lock", _CLUSTER)
    }

    [driver] = [line for line in pins["requirements.lock"] if line.startswith("psycopg==")]
    assert driver in pins[_CLUSTER]


@pytest.mark.parametrize("lock", LOCKS)
def test_an_engines_environment_has_all_that_the_product_needs(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^a-z0-9-]", line)[0] for line in project["dependencies"]}
    pinned = {line.partition("==")[0] for line in (ROOT / lock).read_text().splitlines()}

    assert needed - pinned == set(), "run: scripts/lock-engine NAME"
