"""The example file and the guide say what the schema says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mm_orch.config.keys import ANY_MODEL, dotted, keys_by_path
from tests.generated import run_check

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/generate_config_docs.py"


def test_the_generated_files_are_up_to_date() -> None:
    result = run_check(SCRIPT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["config/optimization.example.yaml", "docs/configuration.md"])
def test_a_stale_file_is_found_and_named(tmp_path: Path, name: str) -> None:
    for part in ("mm_orch", "scripts", "config", "docs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    stale = tmp_path / name
    stale.write_text(stale.read_text().replace("max_batch_tokens", "max_batch_token"))
    result = run_check(SCRIPT, tmp_path)
    assert result.returncode == 1
    assert name in result.stdout


def test_every_option_is_in_the_example_and_in_the_guide() -> None:
    example = (ROOT / "config/optimization.example.yaml").read_text()
    guide = (ROOT / "docs/configuration.md").read_text()
    for path in keys_by_path():
        assert f"{path[-1]}: " in example
        row = dotted(path[1:]).replace(ANY_MODEL, "&lt;name&gt;")
        assert f"| {row} |" in guide
