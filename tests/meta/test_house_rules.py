"""Rules of this code base that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mm_orch

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FORBIDDEN_WORDS = {"utils", "helpers", "common", "base", "impl", "handler", "info"}
# The places that may catch everything: each is the last line before a process or a path ends.
BROAD_CATCHES = {
    "mm_orch/api/boundary.py",
    "mm_orch/api/event_stream.py",
    "mm_orch/autoscaling/loop.py",
    "mm_orch/batching/batcher.py",
    "mm_orch/batching/embedding.py",
    "mm_orch/core/observers.py",
    "mm_orch/gpus/faults.py",
    "mm_orch/gpus/nvml.py",
    "mm_orch/live/following.py",
    "mm_orch/monitoring/alerts/delivery.py",
    "mm_orch/monitoring/alerts/watch.py",
    "mm_orch/monitoring/monitor.py",
    "mm_orch/monitoring/tracing/exporting.py",
    # Not a boundary: its library raises nothing more special.
    "mm_orch/models/text.py",
    "mm_orch/search/extraction.py",
    "mm_orch/optimization/placing/places.py",
    "mm_orch/optimization/residents.py",
    "mm_orch/optimization/supervisor.py",
    "mm_orch/remote/discovery.py",
    "mm_orch/remote/server.py",
    "mm_orch/tuning/loop.py",
    "mm_orch/workers/cluster/joining.py",
    "mm_orch/workflows/graph_runner.py",
}


def tracked(pattern: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).exists()]


SOURCES = tracked("*.py")
PACKAGE = [path for path in SOURCES if path.is_relative_to(ROOT / "mm_orch")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert len(PACKAGE) > 30


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_and_no_function_is_too_long(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].rstrip()[-1] in ".:?"


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_no_module_and_no_class_has_an_empty_name(path: Path) -> None:
    classes = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    words = {path.stem, *(w.lower() for c in classes for w in re.findall(r"[A-Z][a-z]+", c))}
    assert not words & FORBIDDEN_WORDS


def test_only_boundaries_catch_everything() -> None:
    catchers = {
        name_of(path)
        for path in PACKAGE
        if re.search(r"except Exception\b|except:", path.read_text())
    }
    assert catchers == BROAD_CATCHES


def test_environment_and_printing_stay_in_their_layers() -> None:
    readers = {
        name_of(path)
        for path in PACKAGE
        if re.search(r"os\.environ|getenv\(", path.read_text()) and "config" not in path.parts
    }
    # The two faces hand the environment to the configuration layer and read nothing of it; the
    # others set what DeepSpeed, vLLM, torch's compiler, Ray and CUDA cannot be told in another way.
    assert readers <= {
        "mm_orch/muai.py",
        "mm_orch/cli/configuration.py",
        "mm_orch/gpus/visible.py",
        "mm_orch/optimization/engines/deepspeed/environment.py",
        "mm_orch/optimization/engines/pytorch/compiled.py",
        "mm_orch/optimization/engines/vllm/environment.py",
        "mm_orch/workers/cluster/session.py",
        "mm_orch/workers/launching.py",
    }


def test_everything_public_can_be_imported() -> None:
    assert [name for name in mm_orch.__all__ if not hasattr(mm_orch, name)] == []


def test_the_version_is_stated_in_one_place_and_equally_wherever_an_image_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pages = [*tracked("docs/*.md"), *tracked("examples/*"), *tracked("deploy/*")]
    texts = [page.read_text() for page in pages if page.is_file()]
    named = {match for text in texts for match in re.findall(r"muai:(\d+\.\d+\.\d+)", text)}

    assert project["project"]["dynamic"] == ["version"]
    attribute = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert attribute == "mm_orch.core.version.__version__"
    assert named == {mm_orch.__version__}


def test_the_requirements_file_is_made_from_the_project_file() -> None:
    result = subprocess.run(
        [sys.executable, "scripts/generate_requirements.py", "--check"], cwd=ROOT, check=False
    )
    assert result.returncode == 0, "run: make lock"


@pytest.mark.parametrize("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_a_lock_file_pins_exactly_and_names_no_place(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9_.-]+==([0-9]+!)?[0-9][0-9a-z.]*( ; .*)?", line), line
