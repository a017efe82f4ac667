"""The wheel: it is made of the source distribution, and works where this repository is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

import mm_orch
from tests.meta.test_distribution_files import PROJECT, packaged_data
from tests.meta.test_house_rules import tracked
from tests.processes import ROOT, clean_environment


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both, made of a copy: what a build leaves behind is in nobody's way."""
    source = tmp_path_factory.mktemp("source")
    for path in [*tracked("mm_orch/*"), ROOT / "pyproject.toml", ROOT / "README.md"]:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(ROOT / "LICENSE", source)
    directory = tmp_path_factory.mktemp("dist")
    # With warnings as errors, setuptools' own would end the build.
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, source],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    [wheel] = distributions.glob("*.whl")
    return wheel


def test_everything_that_is_no_program_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert [name for name in packaged_data() if name not in names] == []
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "scripts/"))]


def test_the_source_distribution_has_the_licence_and_the_readme(distributions: Path) -> None:
    [archive] = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}

    assert {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert [name for name in packaged_data() if name not in names] == []


def test_the_wheel_says_what_the_project_file_says(wheel: Path) -> None:
    metadata = _described(wheel).metadata
    project = PROJECT["project"]

    assert metadata["Version"] == mm_orch.__version__
    assert metadata["License-Expression"] == project["license"]
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])


def test_the_wheel_has_every_entry_point(wheel: Path) -> None:
    groups = PROJECT["project"]["entry-points"] | {"console_scripts": PROJECT["project"]["scripts"]}
    stated = {
        (group, name, value) for group, points in groups.items() for name, value in points.items()
    }

    assert len(stated) > 10
    assert {(one.group, one.name, one.value) for one in _described(wheel).entry_points} == stated


def _described(wheel: Path) -> PathDistribution:
    [folder] = [path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info")]
    return PathDistribution(folder)


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
    assert run(muai, "--version") == f"muai {mm_orch.__version__}\n"
    assert run(muai, "--check-config") == "The configuration is valid.\n"
    assert run(muai, "--workflow", "search_qa", "--engine", "echo", "What is the Golden Gate?")
