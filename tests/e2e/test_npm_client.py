"""The official npm client against the real server and the real model."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.available import require_program

if TYPE_CHECKING:
    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

PACKAGE = Path(__file__).parent / "npm"
MODEL = "smollm2-135m"
# Words of npm when it cannot reach where packages come from; anything else is a failure.
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the client that the lock file names."""
    for program in ("node", "npm"):
        require_program(program)
    directory = tmp_path_factory.mktemp("npm")
    for source in PACKAGE.iterdir():
        if source.is_file():
            shutil.copy(source, directory)
    result = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"],
        cwd=directory,
        env=os.environ | {"npm_config_cache": str(directory / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if result.returncode != 0 and any(word in result.stderr for word in UNREACHABLE):
        pytest.skip(f"npm cannot reach its packages: {result.stderr.strip().splitlines()[0]}")
    assert result.returncode == 0, result.stderr
    return directory


def test_the_npm_client_is_served(installed: Path, server: ServerProcess) -> None:
    result = subprocess.run(
        ["node", "client.mjs", server.url, MODEL],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout == "all as it should be\n"
    # The stream that was left has given its place back.
    reports = iter(lambda: server.request("GET", "/api/status").json, None)
    assert any(report["num_running"] == 0 for report in reports)
