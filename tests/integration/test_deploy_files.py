"""The programs that read the files in deploy/ take them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.available import require_program
from tests.deploy_files import DEPLOY, RULE_TESTS, RULES
from tests.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "scripts/generate_dashboards.py"

needs_sdk = pytest.mark.skipif(
    importlib.util.find_spec("grafana_foundation_sdk") is None,
    reason="grafana-foundation-sdk is not installed",
)


def run(*command: object, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    require_program(words[0])
    return subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)


def test_prometheus_takes_its_configuration() -> None:
    result = run("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 rule files found" in result.stdout


def test_the_rules_are_valid_and_clean() -> None:
    result = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_rules_pass_their_own_tests() -> None:
    result = run("promtool", "test", "rules", RULE_TESTS)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_rules_fail_their_own_tests_when_a_limit_is_another(tmp_path: Path) -> None:
    rules = RULES.read_text()
    (tmp_path / RULES.name).write_text(
        rules.replace("requests_waiting > 32", "requests_waiting > 64")
    )
    # Those of other rules would take their time and show nothing more.
    tests = yaml.safe_load(RULE_TESTS.read_text())
    tests["tests"] = [test for test in tests["tests"] if "QueueLong" in str(test)]
    (tmp_path / RULE_TESTS.name).write_text(yaml.safe_dump(tests))
    result = run("promtool", "test", "rules", RULE_TESTS.name, directory=tmp_path)
    assert result.returncode != 0
    assert "QueueLong" in result.stdout + result.stderr


def test_alertmanager_takes_its_configuration() -> None:
    result = run("amtool", "check-config", DEPLOY / "alertmanager/alertmanager.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "on-call"), ("error", "team"), ("warning", "team")]
)
def test_alerts_are_routed_by_severity(severity: str, receiver: str) -> None:
    config = f"--config.file={DEPLOY / 'alertmanager/alertmanager.yml'}"
    result = run("amtool", "config", "routes", "test", config, f"severity={severity}")
    assert result.stdout.strip() == receiver


@needs_sdk
def test_the_dashboards_are_up_to_date() -> None:
    result = run(sys.executable, SCRIPT, "--check")
    assert result.returncode == 0, result.stdout + result.stderr


@needs_sdk
def test_a_stale_and_a_foreign_dashboard_are_found_and_named(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("scripts", "deploy"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    folder = tmp_path / "deploy/grafana/dashboards"
    stale = folder / "overview.json"
    stale.write_text(stale.read_text().replace("Waiting", "Queue"))
    (folder / "mine.json").write_text("{}")
    result = run(sys.executable, SCRIPT, "--check", directory=tmp_path)
    assert result.returncode == 1
    assert "overview.json" in result.stdout
    assert "mine.json" in result.stdout
