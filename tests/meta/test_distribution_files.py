"""What the distribution is made of, and the files that a project has for those who carry it on."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import PurePath
from typing import Any

import yaml

import mm_orch
from tests.meta.test_house_rules import tracked
from tests.processes import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FRAGMENTS = [path for path in tracked("changelog.d/*") if path.name != "README.md"]


def packaged_data() -> list[str]:
    """Return every tracked file of the package that is no Python."""
    data = [path for path in tracked("mm_orch/*") if path.suffix != ".py"]
    return [str(path.relative_to(ROOT)) for path in data]


def test_every_file_of_the_package_is_packaged() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["mm_orch"]
    allowed = [re.compile(_regex(pattern)) for pattern in patterns]
    files = [str(PurePath(name).relative_to("mm_orch")) for name in packaged_data()]

    assert len(files) > 20
    assert [name for name in files if not any(one.fullmatch(name) for one in allowed)] == []


def _regex(pattern: str) -> str:
    """Return a glob of setuptools as a regular expression: ``**`` is any number of folders."""
    parts = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("**/"))
    return "(?:[^/]+/)*".join(parts)


def test_every_change_that_is_not_released_is_of_a_known_kind() -> None:
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}

    for path in FRAGMENTS:
        match = re.fullmatch(r"(?:\d+|\+[\w-]+)\.(\w+)\.md", path.name)
        assert match, f"{path.name}: see changelog.d/README.md"
        assert match[1] in kinds
        assert path.read_text().strip()


def test_changes_find_their_place_in_the_list() -> None:
    assert (ROOT / "CHANGELOG.md").read_text().count(PROJECT["tool"]["towncrier"]["start_string"])


def test_the_list_of_changes_has_the_form_that_its_head_names() -> None:
    page = (ROOT / "CHANGELOG.md").read_text()
    form = PROJECT["tool"]["towncrier"]
    made = form["title_format"].format(version="1.2.3", project_date="2026-01-02")
    releases = re.findall(r"^## .*$", page, re.MULTILINE)
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]

    assert "Keep a Changelog 1.1" in page.partition(form["start_string"])[0]
    for title in (made, *releases):
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title), title
    assert releases[0].startswith(f"## [{mm_orch.__version__}] ")
    assert [kind["name"] for kind in form["type"]] == kinds
    assert set(re.findall(r"^### (.*)$", page, re.MULTILINE)) <= set(kinds)


def test_hooks_before_a_commit_are_parts_of_the_gate_and_download_nothing() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    parts = re.findall(r"^        (\w+)\)", (ROOT / "scripts/check").read_text(), re.MULTILINE)

    assert {repository["repo"] for repository in repositories} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    assert sorted(hook["entry"] for hook in hooks) == sorted(f"scripts/check {p}" for p in parts)


def test_a_part_that_the_gate_has_not_is_refused() -> None:
    refused = subprocess.run(
        ["scripts/check", "everything"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "format, lint, types, layers, dependencies" in refused.stderr


def test_forms_for_issues_say_what_each_field_is_for() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    bodies = [yaml.safe_load(form.read_text()).get("body", []) for form in forms]

    fields = [field for body in bodies for field in body if field["type"] != "markdown"]
    assert len(fields) > 4
    assert all(field["id"] and field["attributes"]["label"] for field in fields)
    assert (ROOT / "SECURITY.md").is_file()
