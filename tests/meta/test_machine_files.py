"""Files for servers without containers: systemd's unit, the collector of logs, the balancer."""

from __future__ import annotations

import configparser
import json
import logging
import re
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Any

import yaml

from mm_orch.cli.actions import Action
from mm_orch.cli.arguments import parse_arguments
from mm_orch.cli.logs import configure_logging
from mm_orch.config.schema import Config
from mm_orch.core.trace import CURRENT, TraceContext
from tests.deploy_files import DEPLOY
from tests.manifests import read_manifests
from tests.unit.api.described import read_description

if TYPE_CHECKING:
    from pathlib import Path

UNIT = DEPLOY / "systemd/muai.service"
LOGS = DEPLOY / "otel-collector/logs.yml"
BALANCER = DEPLOY / "haproxy/haproxy.cfg"
# Beside the drain: until workers and exporters have ended (docs/deployment.md).
_END_S = 22


def read_unit() -> dict[str, str]:
    # Of a key that stands there twice the last one counts; only Environment does.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as documented
    parser.read(UNIT)
    return dict(parser["Service"])


def test_the_unit_starts_the_server_and_gives_it_time_to_end() -> None:
    unit = read_unit()
    program, *arguments = shlex.split(unit["ExecStart"])
    drain_s = Config().monitoring.server.graceful_shutdown_timeout

    assert program.endswith("/muai")
    assert parse_arguments(arguments).action is Action.SERVER
    assert int(unit["TimeoutStopSec"]) > drain_s + _END_S
    assert unit["KillMode"] == "mixed"
    assert "-HUP" in unit["ExecReload"]
    assert UNIT.read_text().count(f"=/var/lib/{unit['StateDirectory']}\n") == 3
    # Kernels are compiled and loaded.
    assert "MemoryDenyWriteExecute" not in unit


def written_line(directory: Path) -> dict[str, Any]:
    """Return what the server writes for one call in a trace."""
    path = directory / "muai.log"
    token = CURRENT.set(TraceContext(trace_id=1, span_id=2, is_sampled=True))
    try:
        configure_logging("INFO", path, "json", to_stderr=False)
        logging.getLogger("mm_orch.tested").warning("It is full.", extra={"model": "m"})
    finally:
        CURRENT.reset(token)
        configure_logging("WARNING", None, "text", to_stderr=False)
    return dict(json.loads(path.read_text()))


def test_the_collector_reads_the_fields_that_log_lines_have(tmp_path: Path) -> None:
    line = written_line(tmp_path)
    content = yaml.safe_load(LOGS.read_text())
    operators = content["receivers"]["filelog"]["operators"]
    read = [
        value.removeprefix("attributes.")
        for operator in operators
        for part in (operator, *(one for one in operator.values() if isinstance(one, dict)))
        for key, value in part.items()
        if key in {"parse_from", "from", "field"}
    ]
    [parser] = [one for one in operators if one["type"] == "json_parser"]
    # Go writes its layouts by a moment of 2006.
    layout = parser["timestamp"]["layout"].replace(".999999", ".000000")
    written = datetime.strptime(layout, "%Y-%m-%dT%H:%M:%S.%f%z")

    assert len(read) > 4
    assert set(read) <= line.keys()
    assert written.year == 2006
    assert datetime.strptime(line["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z").tzinfo is not None
    assert line["event"] == "It is full."


def test_the_collector_finds_the_files_of_a_pod() -> None:
    manifests = read_manifests("cpu")
    [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]

    # <namespace>_<pod>_<uid>/<container>/<restarts>.log
    assert f"/var/log/pods/*_muai-*/{container['name']}/*.log" in LOGS.read_text()
    assert manifests["Deployment"]["metadata"]["name"] == "muai"


async def test_the_load_balancer_asks_a_path_that_is_served_and_waits_long_enough() -> None:
    described = await read_description()
    text = BALANCER.read_text()
    [path] = re.findall(r"option httpchk GET (\S+)", text)
    waits_s = [int(number) for number in re.findall(r"timeout (?:client|server) (\d+)s", text)]

    assert path in described["paths"]
    assert min(waits_s) > Config().api.request_timeout_s


def balancer_section(name: str) -> list[list[str]]:
    """Return the lines of a section of the load balancer's file, each as its words."""
    [section] = re.findall(rf"^{name}\n((?:(?: .*)?\n)+)", BALANCER.read_text(), re.MULTILINE)
    lines = [line.partition("#")[0].split() for line in section.splitlines()]
    return [words for words in lines if words]


def test_the_load_balancer_tries_another_server_and_says_for_whom_it_asks() -> None:
    defaults = balancer_section("defaults")

    # HAProxy passes retries over in a frontend, with a warning.
    assert BALANCER.read_text().count("\n    retries ") == 1
    assert ["retries", "1"] in defaults
    assert ["option", "redispatch", "1"] in defaults
    # mm_orch/api/rights.py knows by it that a call is not of this machine.
    assert ["option", "forwardfor"] in defaults


async def test_the_load_balancer_refuses_what_tells_of_the_server_without_a_key() -> None:
    described = await read_description()
    frontend = balancer_section("frontend muai")
    [refused] = [words[5:] for words in frontend if words[:2] == ["acl", "is_inside"]]

    assert ["http-request", "deny", "if", "is_inside"] in frontend
    assert refused == ["/metrics", Config().monitoring.server.health_check_path]
    assert set(refused) < described["paths"].keys()


def test_the_collectors_pipeline_uses_what_is_configured() -> None:
    content = yaml.safe_load(LOGS.read_text())
    [pipeline] = content["service"]["pipelines"].values()

    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == content[kind].keys()
    assert set(content["service"]["extensions"]) == content["extensions"].keys()


def test_a_line_and_its_span_are_found_under_one_service() -> None:
    content = yaml.safe_load(LOGS.read_text())
    [service] = content["processors"]["resource"]["attributes"]

    assert service["key"] == "service.name"
    assert service["value"] == Config().monitoring.tracing.service_name


def test_the_two_collectors_run_on_one_machine() -> None:
    ports = [
        port
        for path in (LOGS, LOGS.with_name("config.yml"))
        for port in ports_of(yaml.safe_load(path.read_text()))
    ]

    assert len(ports) == 6
    assert len(set(ports)) == len(ports)


def ports_of(content: dict[str, Any]) -> list[int]:
    """Return what a collector listens on: its receivers, its health and its own metrics."""
    protocols = content["receivers"].get("otlp", {}).get("protocols", {}).values()
    listening = [*protocols, content["extensions"]["health_check"]]
    readers = content["service"].get("telemetry", {}).get("metrics", {}).get("readers", [])
    own = [reader["pull"]["exporter"]["prometheus"]["port"] for reader in readers]
    # Without a word on them, a collector has its own metrics there.
    return [int(one["endpoint"].rpartition(":")[2]) for one in listening] + (own or [8888])
