"""What the files in deploy/ say: the rules' and the dashboards' expressions, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/rules.yml"
RULE_TESTS = DEPLOY / "prometheus/rules_test.yml"
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))

# What Grafana puts in their place.
_VARIABLES = {"$__rate_interval": "1m", "$model": ".*"}


def read_rules() -> list[dict[str, Any]]:
    """Return every rule, in order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def read_dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard by its file's name."""
    board: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards" / name).read_text())
    return board


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard that show something: all but the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """Yield a name for each expression of a dashboard, and it with its variables replaced."""
    for path in DASHBOARDS:
        for panel in panels_of(read_dashboard(path.name)):
            for target in panel["targets"]:
                name = f"{path.stem}: {panel['title']}: {target['legendFormat']}"
                yield name, replace_variables(target["expr"])


def replace_variables(expression: str) -> str:
    """Return an expression as Grafana sends it with all models chosen."""
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression
