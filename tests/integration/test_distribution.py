"""The wheel: it is made of the source distribution, and works where this repository is not."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.meta.test_distribution_files import packaged_data
from tests.processes import ROOT, clean_environment

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    # With warnings as errors, setuptools' own would end the build.
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert len(list(directory.glob("*.tar.gz"))) == 1
    [wheel] = directory.glob("*.whl")
    return wheel


def test_everything_that_is_no_program_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert [name for name in packaged_data() if name not in names] == []
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))]


def test_what_is_installed_answers_outside_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}, scheme="posix_prefix")
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel],
        check=True,
    )
    # Everything that it depends on comes from this environment; its own files come first.
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    environment = clean_environment()
    del environment["PYTHONPATH"]

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [*command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run(python, "-c", "import mm_orch; print(mm_orch.__file__)")
    muai = tmp_path / "venv/bin/muai"
    assert place.startswith(str(packages))
    assert run(muai, "--version").startswith("muai ")
    assert run(muai, "--check-config") == "The configuration is valid.\n"
    assert run(muai, "--workflow", "search_qa", "--engine", "echo", "What is the Golden Gate?")
