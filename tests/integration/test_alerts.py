"""Alerts reach a real Alertmanager and a real webhook: begin, are one, grow worse, end."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.monitoring.alerts.baseline import Baselines, BaselineSettings
from mm_orch.monitoring.alerts.book import NUM_CLEAR, AlertBook
from mm_orch.monitoring.alerts.delivery import Delivery
from mm_orch.monitoring.alerts.destinations import RESEND_S, DestinationSettings, make_destinations
from mm_orch.monitoring.alerts.figures import Figures, MemoryFigures, ModelFigures, QueueFigures
from mm_orch.monitoring.alerts.thresholds import Thresholds
from mm_orch.monitoring.alerts.watch import AlertWatch
from tests.alert_receiver import Receiver
from tests.alertmanager import run_alertmanager
from tests.processes import run_cli
from tests.recorder import Recorder
from tests.unit.monitoring.alerts.background import running
from tests.unit.monitoring.clock import StillClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.alertmanager import Alertmanager

INTERVAL_S = 10.0
LIMITS = Thresholds(
    latency_threshold_ms=1000,
    error_rate_threshold=0.05,
    memory_threshold_percent=80,
    throughput_threshold_rps=1.0,
)
USUAL = BaselineSettings(num_warm_up=5)
NOTHING = Figures()


def of_model(*, num_failed: int = 0, p50_s: float = 0.1, p95_s: float = 0.2) -> Figures:
    model = ModelFigures(
        model="m",
        engine="e",
        num_succeeded=100,
        num_failed=num_failed,
        latency_p50_s=p50_s,
        latency_p95_s=p95_s,
    )
    return Figures(models=(model,))


def of_queue(throughput_rps: float) -> Figures:
    queue = QueueFigures(model="m", num_waiting=3, waiting_s=60, throughput_rps=throughput_rps)
    return Figures(queues=(queue,))


def of_memory(used_ratio: float) -> Figures:
    return Figures(memory=(MemoryFigures(place="host", used_ratio=used_ratio),))


# Each kind with figures that are worth a warning, and worse ones that are critical.
KINDS = {
    "high_latency": (of_model(p95_s=1.5), of_model(p95_s=4.0)),
    "high_error_rate": (of_model(num_failed=7), of_model(num_failed=30)),
    "high_memory": (of_memory(0.82), of_memory(0.95)),
    "low_throughput": (of_queue(0.8), of_queue(0.0)),
    "anomaly": (of_model(p50_s=0.2, p95_s=0.4), of_model(p50_s=0.9, p95_s=0.9)),
}
WITH_ENGINE = {"high_latency", "high_error_rate", "anomaly"}
WITH_MODEL = {*WITH_ENGINE, "low_throughput"}


class Post:
    """A watch whose figures and clock the test moves, real destinations, and their far ends."""

    def __init__(self, manager: Alertmanager, hook: Receiver, limits: Thresholds) -> None:
        self.manager = manager
        self.hook = hook
        self.figures = NOTHING
        self.clock = StillClock()
        observer = Recorder()
        destinations = make_destinations(
            DestinationSettings(
                names=("webhook", "alertmanager"),
                webhook_url=f"{hook.url}/own",
                alertmanager_url=manager.url,
            )
        )
        self.delivery = Delivery(
            destinations, observer=observer, clock=self.clock, pause=lambda _: asyncio.sleep(0)
        )
        self.watch = AlertWatch(
            lambda: self.figures,
            thresholds=limits,
            baselines=Baselines(USUAL),
            book=AlertBook(rate_limit_s=300),
            delivery=self.delivery,
            interval_s=INTERVAL_S,
            observer=observer,
            clock=self.clock,
        )

    async def see(self, figures: Figures, *, times: int = 1) -> None:
        """Evaluate these figures; return once everything was delivered."""
        self.figures = figures
        for _ in range(times):
            self.watch.evaluate()
            self.clock.now_s += INTERVAL_S
        async with asyncio.timeout(60):
            while any(one.num_waiting for one in self.delivery.reports()):  # noqa: ASYNC110 - nothing states it
                await asyncio.sleep(0)

    def opened(self) -> AbstractAsyncContextManager[None]:
        return running(self.delivery.run())

    def told(self) -> list[tuple[str, str, str]]:
        """What the webhook of our own has got."""
        return [
            (body["alert_type"], body["status"], body["severity"])
            for body in self.hook.bodies_to("/own")
        ]

    async def firing(self, *wanted: str) -> list[dict[str, str]]:
        """Wait until Alertmanager has alerts of these severities alone, and return their labels."""
        return await asyncio.to_thread(
            self.manager.wait_until,
            lambda labels: sorted(one["severity"] for one in labels) == sorted(wanted),
        )


@asynccontextmanager
async def opened(directory: Path, limits: Thresholds = LIMITS) -> AsyncIterator[Post]:
    async with Receiver().serve() as hook:
        url = f"{hook.url}/manager"
        with run_alertmanager(directory, webhook_url=url) as manager:
            post = Post(manager, hook, limits)
            async with post.opened():
                yield post


@pytest.mark.parametrize("kind", KINDS)
async def test_an_alert_begins_is_one_grows_worse_and_ends(kind: str, tmp_path: Path) -> None:
    mild, grave = KINDS[kind]
    limits = Thresholds() if kind == "anomaly" else LIMITS
    async with opened(tmp_path, limits) as post:
        if kind == "anomaly":
            await post.see(of_model(), times=60)
            assert post.told() == []
        await post.see(mild, times=USUAL.num_in_a_row)
        [labels] = await post.firing("warning")
        expected = {"alertname": kind, "severity": "warning", "service": "muai-orchestration"}
        expected |= {"model": "m"} if kind in WITH_MODEL else {}
        expected |= {"engine": "e"} if kind in WITH_ENGINE else {}
        assert labels == expected

        # Many evaluations, and what Alertmanager is sent again, make one alert.
        await post.see(mild, times=20)
        assert len(await post.firing("warning")) == 1
        assert post.told() == [(kind, "firing", "warning")]

        await post.see(grave)
        [labels] = await post.firing("critical")
        assert labels == expected | {"severity": "critical"}
        [alert] = post.manager.alerts()
        assert alert["annotations"]["description"] == post.hook.bodies_to("/own")[-1]["message"]
        assert alert["endsAt"] > alert["startsAt"]

        await post.see(NOTHING, times=NUM_CLEAR)
        assert await post.firing() == []

    assert post.told() == [
        (kind, "firing", "warning"),
        (kind, "firing", "critical"),
        (kind, "resolved", "critical"),
    ]
    assert [report.num_failed for report in post.delivery.reports()] == [0, 0]


async def test_alertmanager_notifies_of_begin_and_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as post:
        await post.see(of_memory(0.95))
        async with asyncio.timeout(60):
            while not post.hook.bodies_to("/manager"):
                await post.hook.wait_for(len(post.hook.bodies) + 1)
        [notification] = post.hook.bodies_to("/manager")
        assert notification["status"] == "firing"
        assert notification["commonLabels"]["alertname"] == "high_memory"

        await post.see(NOTHING, times=NUM_CLEAR)
        async with asyncio.timeout(60):
            while post.hook.bodies_to("/manager")[-1]["status"] != "resolved":
                await post.hook.wait_for(len(post.hook.bodies) + 1)


async def test_alerts_of_several_kinds_stand_side_by_side(tmp_path: Path) -> None:
    async with opened(tmp_path) as post:
        together = Figures(
            models=of_model(num_failed=7, p95_s=4.0).models,
            queues=of_queue(0.4).queues,
            memory=of_memory(0.82).memory,
        )
        await post.see(together)

        labels = await post.firing("critical", "error", "warning", "warning")

    assert {one["alertname"] for one in labels} == set(KINDS) - {"anomaly"}


async def test_the_test_alert_of_the_command_line_fires_in_alertmanager(tmp_path: Path) -> None:
    async with opened(tmp_path) as post:
        anomaly = {
            "alert_destinations": ["log", "alertmanager"],
            "alertmanager_url": post.manager.url,
        }
        config = tmp_path / "muai.yaml"
        # JSON is YAML.
        config.write_text(json.dumps({"monitoring": {"anomaly": anomaly}}))
        command = ("--test-alert", "--config", str(config))

        result = await asyncio.to_thread(run_cli, *command, directory=tmp_path)

        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == ["log          took it", "alertmanager took it"]
        [labels] = await post.firing("warning")
        assert labels["alertname"] == "test"
        await asyncio.to_thread(post.manager.stop)

        result = await asyncio.to_thread(run_cli, *command, directory=tmp_path)

    assert result.returncode == 1
    assert "alertmanager failed: Connection refused" in result.stdout
    assert "monitoring.anomaly.alertmanager_url" in result.stderr


async def test_an_alertmanager_that_was_away_and_has_forgotten_is_told_again(
    tmp_path: Path,
) -> None:
    async with Receiver().serve() as hook:
        url = f"{hook.url}/manager"
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        with run_alertmanager(first, webhook_url=url) as manager:
            post = Post(manager, hook, LIMITS)
            async with post.opened():
                await post.see(of_memory(0.95))
                await post.firing("critical")
                await asyncio.to_thread(manager.stop)
                post.clock.now_s += RESEND_S
                await post.see(of_memory(0.95))
                assert post.delivery.reports()[1].num_failed == 1
                with run_alertmanager(second, webhook_url=url, address=manager.address) as back:
                    assert back.labels() == []
                    post.clock.now_s += RESEND_S
                    await post.see(of_memory(0.95))
                    await post.firing("critical")
