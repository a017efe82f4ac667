"""The files in deploy/ hang together, and name only what the server states."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy_files import (
    DASHBOARDS,
    DEPLOY,
    RULE_TESTS,
    RULES,
    dashboard_expressions,
    panels_of,
    read_dashboard,
    read_rules,
    replace_variables,
)
from tests.metrics_contract import PROMISED, SCALING, sample_names
from tests.promql_names import names_in

if TYPE_CHECKING:
    from collections.abc import Iterator

STATED = {name for series in (*PROMISED, *SCALING) for name in sample_names(series)}
# Prometheus states this one itself, of each target.
OF_PROMETHEUS = {"up"}
RULE_LIST = read_rules()
ALERTS = [rule for rule in RULE_LIST if "alert" in rule]
RECORDED = {rule["record"] for rule in RULE_LIST if "record" in rule}
FIRING = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'
NAMES = [path.name for path in DASHBOARDS]


def rule_name(rule: dict[str, Any]) -> str:
    return rule.get("record") or f"{rule['alert']}, {rule['labels']['severity']}"


def test_series_are_found_wherever_they_stand_in_an_expression() -> None:
    expression = 'sum(rate(a[5m])) / on (x) b{c="d"} > 1 or absent(e) or max_over_time(f[1h:1m])'

    assert names_in(expression) == {"a", "b", "e", "f"}


@pytest.mark.parametrize("rule", RULE_LIST, ids=rule_name)
def test_a_rule_reads_only_series_that_there_are(rule: dict[str, Any]) -> None:
    names = names_in(rule["expr"])

    assert names
    assert names - STATED - OF_PROMETHEUS - RECORDED == set()


@pytest.mark.parametrize(("name", "expression"), list(dashboard_expressions()))
def test_a_panel_reads_only_series_that_there_are(name: str, expression: str) -> None:
    names = names_in(expression)

    assert names, name
    assert names - STATED - OF_PROMETHEUS == set()


def test_every_series_is_on_a_dashboard() -> None:
    shown = {name for _, expression in dashboard_expressions() for name in names_in(expression)}

    assert [one.name for one in (*PROMISED, *SCALING) if not sample_names(one) & shown] == []


def test_no_variable_is_left_in_an_expression() -> None:
    assert [expression for _, expression in dashboard_expressions() if "$" in expression] == []
    assert "$" not in replace_variables('rate(a{model=~"$model"}[$__rate_interval])')


@pytest.mark.parametrize("rule", ALERTS, ids=rule_name)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description", "action"}
    assert rule["annotations"]["action"].endswith(".")


def rule_tests() -> Iterator[tuple[set[str], dict[str, Any]]]:
    """Each query of the rules' tests, with the series that its test gives to read."""
    for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        given = {re.split(r"[{ ]", one["series"])[0] for one in test["input_series"]}
        for query in test["promql_expr_test"]:
            yield given, query


def fires_in(rule: dict[str, Any], query: dict[str, Any]) -> bool:
    wanted = f'{{alertname="{rule["alert"]}", severity="{rule["labels"]["severity"]}"}}'
    return any(sample["labels"] == wanted for sample in query["exp_samples"])


@pytest.mark.parametrize("rule", ALERTS, ids=rule_name)
def test_an_alert_is_tested_to_fire_and_not_to(rule: dict[str, Any]) -> None:
    read = names_in(rule["expr"]) - RECORDED
    queries = [(given, query) for given, query in rule_tests() if query["expr"] == FIRING]

    assert any(fires_in(rule, query) for _, query in queries)
    assert any(read <= given and not fires_in(rule, query) for given, query in queries)


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_series_is_tested_with_several_values(name: str) -> None:
    queries = [query for _, query in rule_tests() if name in names_in(query["expr"])]

    assert len({query["exp_samples"][0]["value"] for query in queries}) > 1


def test_the_configuration_loads_the_rules_and_reads_the_right_job() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())

    assert config["rule_files"] == [RULES.name]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["muai"]
    assert config["alerting"]["alertmanagers"]


def test_the_collector_uses_what_it_defines_and_defines_what_it_uses() -> None:
    config = yaml.safe_load((DEPLOY / "otel-collector/config.yml").read_text())
    service = config["service"]

    for kind in ("receivers", "processors", "exporters"):
        used = {name for line in service["pipelines"].values() for name in line[kind]}
        assert used == set(config[kind])
    assert set(service["extensions"]) == set(config["extensions"])
    # It is no use where it stands behind what takes the memory.
    assert service["pipelines"]["traces"]["processors"][0] == "memory_limiter"
    assert set(config["receivers"]["otlp"]["protocols"]) == {"grpc", "http"}


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    folder = DEPLOY / "grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards/muai.yml").read_text())["providers"]

    assert source["type"] == "prometheus"
    assert provider["options"]["path"].startswith("/")


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_asks_its_data_source_and_its_models(name: str) -> None:
    board = read_dashboard(name)
    variables = {one["name"]: one for one in board["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert "inference_requests_total" in variables["model"]["query"]
    for panel in panels_of(board):
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_is_named_described_and_alone_in_its_place(name: str) -> None:
    board = read_dashboard(name)
    ids = [panel["id"] for panel in board["panels"]]
    cells = [cell for panel in board["panels"] for cell in cells_of(panel["gridPos"])]

    assert len(ids) == len(set(ids))
    assert len(cells) == len(set(cells))
    for panel in panels_of(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert all(target["legendFormat"] for target in panel["targets"])
        ref_ids = [target["refId"] for target in panel["targets"]]
        assert len(ref_ids) == len(set(ref_ids))


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_unit(name: str) -> None:
    for panel in panels_of(read_dashboard(name)):
        match panel["type"]:
            case "heatmap":
                assert panel["options"]["yAxis"]["unit"]
            case "state-timeline":
                # Its numbers are shown as words.
                assert panel["fieldConfig"]["defaults"]["mappings"]
            case _:
                assert panel["fieldConfig"]["defaults"]["unit"]


def cells_of(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        assert x < 24
        yield from ((x, y) for y in range(place["y"], place["y"] + place["h"]))


def test_the_dashboards_have_names_of_their_own() -> None:
    boards = [read_dashboard(name) for name in NAMES]

    assert len(boards) == 3
    assert len({board["uid"] for board in boards}) == 3
    assert len({board["title"] for board in boards}) == 3
