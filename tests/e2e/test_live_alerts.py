"""A real server in real trouble tells a real webhook and a real Alertmanager, and its operators.

The long form makes every kind of trouble.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mm_orch.models.source import BUILT_IN_MODEL
from tests import odd_engines as odd
from tests.alert_receiver import Receiver, run_receiver
from tests.alertmanager import Alertmanager, run_alertmanager
from tests.daemons import find_free_address, poll
from tests.live_trouble import (
    ENGINE,
    ERROR_RATE,
    GOOD,
    LATENCY_MS,
    THROUGHPUT_RPS,
    failing_engine,
    filled_memory,
    memory_limit_percent,
    slow_engine,
    starving_queue,
)
from tests.processes import ROOT, ServerProcess, run_cli, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.live_trouble import Trouble

pytestmark = pytest.mark.model

MODELS = ("slow", "failing", "starving")
SEVERITIES = ["warning", "error", "critical"]
SERVICE = "muai-orchestration"
# Seconds of the server's own clock, and so evaluations, in which nothing may be told again.
LASTING_S = 3
END_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Live:
    """A server, and who hears of its alerts."""

    server: ServerProcess
    hook: Receiver
    manager: Alertmanager
    switch: odd.Switch
    memory_limit_percent: float

    def trouble(self, kind: str) -> AbstractContextManager[Trouble]:
        match kind:
            case "high_latency":
                return slow_engine(self.server, self.switch)
            case "high_error_rate":
                return failing_engine(self.server, self.switch)
            case "low_throughput":
                return starving_queue(self.server, self.switch)
            case _:
                return filled_memory(self.memory_limit_percent)

    def count(self, name: str, by: str, **labels: str) -> dict[str, float]:
        """The series of a counter that have these labels, by another label's value."""
        page = self.server.request("GET", "/metrics").body.decode()
        return {
            sample.labels[by]: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def uptime_s(self) -> float:
        uptime_s: float = self.server.request("GET", "/api/status").json["health"]["uptime_seconds"]
        return uptime_s

    def let_pass(self, seconds: float) -> None:
        """Wait until the server is so much older."""
        begin_s = self.uptime_s()
        poll(self.uptime_s, lambda now_s: now_s >= begin_s + seconds, "uptime")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a live server, as everybody sees it."""

    live: Live
    kind: str
    model: str
    engine: str

    def bodies(self) -> list[Any]:
        """What the webhook was told of it."""
        return [
            body
            for body in self.live.hook.bodies_to("/own")
            if body["alert_type"] == self.kind
            and (body["metadata"]["model"], body["metadata"]["engine"]) == (self.model, self.engine)
        ]

    def wait_until_told(self, status: str, *severities: str) -> Any:
        """Wait until this is the last that the webhook was told; return the body."""
        return poll(
            self.bodies,
            lambda bodies: (
                bool(bodies)
                and bodies[-1]["status"] == status
                and bodies[-1]["severity"] in severities
            ),
            f"of {self.kind}, all that was told",
        )[-1]

    def severities(self) -> list[str]:
        """Those that were told of, in order."""
        return [body["severity"] for body in self.bodies() if body["status"] == "firing"]

    def listed(self) -> list[dict[str, Any]]:
        """What Alertmanager has of it."""
        labels = {"alertname": self.kind, "model": self.model, "engine": self.engine}
        return [
            alert
            for alert in self.live.manager.alerts()
            if all(alert["labels"].get(name, "") == value for name, value in labels.items())
        ]

    def wait_until_listed(self, *severities: str) -> list[dict[str, Any]]:
        """Wait until Alertmanager has it with one of these alone; without any, not at all."""
        return poll(
            self.listed,
            lambda found: (
                len(found) == 1 and found[0]["labels"]["severity"] in severities
                if severities
                else not found
            ),
            f"{self.kind} in Alertmanager",
        )

    def answered(self, group: str) -> list[dict[str, Any]]:
        """What the server's own API says of it: ``firing``, or ``history``."""
        answer = self.live.server.request("GET", "/admin/alerts").json[group]
        wanted = (self.kind, self.model, self.engine)
        return [one for one in answer if (one["alert_type"], one["model"], one["engine"]) == wanted]


@pytest.fixture(scope="module")
def live(
    builtin_model: StoredModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live-alerts")
    switch = odd.install(make_folder(folder / "plug-ins"))
    limit_percent = memory_limit_percent()
    with (
        run_receiver(Receiver()) as hook,
        run_alertmanager(folder, webhook_url=f"{hook.url}/manager") as manager,
    ):
        server = start_server(
            make_folder(folder / "server"),
            config={
                "models": {
                    name: {"source": f"path:{builtin_model.directory}", "engines": [ENGINE]}
                    for name in MODELS
                },
                "optimization": {"batcher": {"max_batch_size": 1}},
                "orchestration": {"max_failovers": 0},
                "monitoring": {
                    "server": {"preload_models": list(MODELS)},
                    "collection_interval_seconds": 1,
                    "anomaly": {
                        "latency_threshold_ms": LATENCY_MS,
                        "error_rate_threshold": ERROR_RATE,
                        "throughput_threshold_rps": THROUGHPUT_RPS,
                        "memory_threshold_percent": limit_percent,
                        "evaluation_interval_seconds": 1,
                        "window_seconds": 5,
                        "min_samples": 2,
                        "alert_rate_limit_seconds": 3600,
                        "alert_destinations": ["log", "webhook", "alertmanager"],
                        "webhook_url": f"{hook.url}/own",
                        "alertmanager_url": manager.url,
                    },
                },
            },
            environment=with_plug_ins(switch),
        )
        try:
            yield Live(server, hook, manager, switch, limit_percent)
        finally:
            server.stop()


def with_plug_ins(switch: odd.Switch) -> dict[str, str]:
    return {**switch.environment, "PYTHONPATH": f"{switch.environment['PYTHONPATH']}:{ROOT}"}


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "high_error_rate",
        "high_memory",
        pytest.param("high_latency", marks=pytest.mark.long),
        pytest.param("low_throughput", marks=pytest.mark.long),
    ],
)
def test_real_trouble_is_told_once_then_that_it_grows_worse_then_that_it_is_over(
    kind: str, live: Live
) -> None:
    with live.trouble(kind) as trouble:
        alert = Alert(live, kind, trouble.model, trouble.engine)
        begin = datetime.now(UTC)
        counted = live.count("alerts_total", "severity", type=kind)

        trouble.begin()
        first = alert.wait_until_told("firing", *SEVERITIES)
        # What is usual was no trouble to it.
        assert datetime.fromisoformat(first["metadata"]["starts_at"]) > begin
        live.let_pass(LASTING_S)
        # It lasts, and is told of once: oftener only if it grew worse.
        assert alert.severities() == rising(alert.severities())
        assert alert.severities()[-1] != "critical"
        check_everybody_sees(alert)

        trouble.worsen()
        last = alert.wait_until_told("firing", "critical")
        assert last["metadata"]["starts_at"] == first["metadata"]["starts_at"]
        [listed] = alert.wait_until_listed("critical")
        assert listed["annotations"]["description"] != first["message"]

        trouble.end()
        # It may have got milder first, which is no news.
        over = alert.wait_until_told("resolved", *SEVERITIES)
        assert over["metadata"]["ends_at"] > over["metadata"]["starts_at"]
        assert alert.wait_until_listed() == []
        assert alert.answered("firing") == []

    told = alert.severities()
    assert told == rising(told)
    assert [body["status"] for body in alert.bodies()] == ["firing"] * len(told) + ["resolved"]
    history = [(one["status"], one["severity"]) for one in alert.answered("history")]
    assert history == [(body["status"], body["severity"]) for body in reversed(alert.bodies())]
    newly = live.count("alerts_total", "severity", type=kind)
    grown = {one: value - counted.get(one, 0) for one, value in newly.items()}
    assert {one: value for one, value in grown.items() if value} == dict.fromkeys(told, 1)
    check_log(alert)


def rising(severities: list[str]) -> list[str]:
    """Return each once, in the order of how grave they are."""
    return sorted(set(severities), key=SEVERITIES.index)


def check_everybody_sees(alert: Alert) -> None:
    """Look at what fires, in every place where it is to be seen."""
    body = alert.bodies()[-1]
    assert set(body) == {
        "alert_type",
        "severity",
        "message",
        "timestamp",
        "status",
        "metadata",
    }
    assert datetime.fromisoformat(body["timestamp"]).tzinfo == UTC
    assert body["metadata"]["ends_at"] is None
    # It may have got milder since, which is shown but not told.
    severities = alert.severities()

    [listed] = alert.wait_until_listed(*severities)
    labels = {
        "alertname": alert.kind,
        "severity": listed["labels"]["severity"],
        "service": SERVICE,
        "model": alert.model,
        "engine": alert.engine,
    }
    assert listed["labels"] == {name: value for name, value in labels.items() if value}
    assert set(listed["annotations"]) == {"summary", "description"}
    since = datetime.fromisoformat(body["metadata"]["starts_at"])
    # Alertmanager keeps milliseconds.
    seconds_apart = datetime.fromisoformat(listed["startsAt"]) - since
    assert abs(seconds_apart.total_seconds()) < 0.001

    [answered] = alert.answered("firing")
    assert answered["severity"] in severities
    assert datetime.fromisoformat(answered["since"]) == since.replace(microsecond=0)

    port = alert.live.server.url.rpartition(":")[2]
    printed = run_cli("--status", "--port", port, directory=ROOT).stdout
    expected = f" {alert.kind} since {answered['since']}: "
    [line] = [line for line in printed.splitlines() if expected in line]
    assert line.split()[0] in severities


def check_log(alert: Alert) -> None:
    subject = alert.model or "memory"
    lines = [line for line in alert.live.server.log.splitlines() if f"{alert.kind}: " in line]
    lines = [line for line in lines if subject in line]
    assert sum("alert firing" in line for line in lines) == len(alert.severities())
    assert sum("alert resolved" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("state", "error_type"),
    [
        ("dead", "ClientConnectorError"),
        pytest.param("hanging", "TimeoutError", marks=pytest.mark.long),
    ],
)
@pytest.mark.usefixtures("builtin_model")
def test_a_webhook_that_takes_nothing_holds_up_nobody(
    state: str, error_type: str, tmp_path: Path
) -> None:
    hook = Receiver()
    hook.is_silent = True
    with (
        run_receiver(hook),
        run_alertmanager(tmp_path, webhook_url=f"{hook.url}/manager") as manager,
    ):
        url = hook.url if state == "hanging" else f"http://{find_free_address()}"
        server = start_server(
            tmp_path,
            config={
                "models": {BUILT_IN_MODEL: {"engines": ["echo"]}},
                "monitoring": {
                    "anomaly": {
                        # Always in trouble.
                        "memory_threshold_percent": 0.01,
                        "evaluation_interval_seconds": 1,
                        "alert_destinations": ["webhook", "alertmanager"],
                        "webhook_url": f"{url}/own",
                        "alertmanager_url": manager.url,
                    },
                },
            },
        )
        live = Live(server, hook, manager, odd.Switch(tmp_path), 0.01)
        try:
            Alert(live, "high_memory", "", "").wait_until_listed("critical")
            answers = [ask(server) for _ in range(20)]
            poll(
                lambda: live.count("errors_total", "error_type", component="alerts"),
                lambda counted: counted.get(error_type, 0) >= 1,
                "errors_total of alerts",
            )
            answers += [ask(server) for _ in range(20)]
            assert answers == [200] * 40
        finally:
            server.process.terminate()
            server.process.wait(END_TIMEOUT_S)
        assert server.wait() == 0
    assert bool(hook.bodies_to("/own")) is (state == "hanging")


def ask(server: ServerProcess) -> int:
    body = {"prompt": GOOD, "max_tokens": 4}
    return server.request("POST", "/v1/completions", body, timeout_s=END_TIMEOUT_S).status
