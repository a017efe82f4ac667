from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mm_orch.core.events import ErrorOccurred
from mm_orch.core.observations import DestinationReport
from mm_orch.monitoring.alerts.alert import Severity
from mm_orch.monitoring.alerts.delivery import Delivery, DeliveryLimits
from mm_orch.monitoring.alerts.destinations import (
    AlertmanagerDestination,
    LogDestination,
    WebhookDestination,
)
from tests.alert_receiver import Receiver
from tests.recorder import Recorder
from tests.unit.monitoring.alerts.alerts import ended, firing
from tests.unit.monitoring.alerts.background import running
from tests.unit.monitoring.alerts.test_destinations import unused_port
from tests.unit.monitoring.clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    import pytest

    from mm_orch.monitoring.alerts.destinations import Destination


class Office:
    """A delivery whose pauses only move its clock."""

    def __init__(
        self,
        *destinations: Destination,
        limits: DeliveryLimits | None = None,
        pauses_end: bool = True,
    ) -> None:
        self.clock = StillClock()
        self.observer = Recorder()
        self.pauses_s: list[float] = []
        self._pauses_end = pauses_end
        self.delivery = Delivery(
            destinations,
            observer=self.observer,
            clock=self.clock,
            pause=self._pause,
            limits=limits,
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.clock.now_s += seconds
        await (asyncio.sleep(0) if self._pauses_end else asyncio.Event().wait())

    @property
    def errors(self) -> list[str]:
        return [event.error_type for event in self.observer.of(ErrorOccurred)]

    def report(self, name: str) -> DestinationReport:
        [report] = [one for one in self.delivery.reports() if one.name == name]
        return report

    async def wait_until_idle(self, name: str) -> None:
        async with asyncio.timeout(60):
            while self.report(name).num_waiting:  # noqa: ASYNC110 - nothing states it
                await asyncio.sleep(0)

    def open(self) -> AbstractAsyncContextManager[None]:
        return running(self.delivery.run())


def statuses(bodies: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    return [(body["status"], body["severity"]) for body in bodies]


async def test_each_destination_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Receiver().serve() as hook, Receiver().serve() as manager:
        office = Office(
            LogDestination(),
            WebhookDestination(hook.url),
            AlertmanagerDestination(manager.url, service="s"),
        )
        async with office.open():
            office.delivery.put([firing()], [firing()])
            await hook.wait_for(1)
            await manager.wait_for(1)
            await office.wait_until_idle("webhook")
            await office.wait_until_idle("alertmanager")

    assert [report.num_sent for report in office.delivery.reports()] == [1, 1, 1]
    assert "alert firing high_latency: it is slow" in caplog.text
    assert office.errors == []


async def test_what_is_not_taken_is_sent_again_after_growing_pauses() -> None:
    async with Receiver(500, 503, 429).serve() as hook:
        office = Office(WebhookDestination(hook.url))
        async with office.open():
            office.delivery.put([firing(), ended(firing())], [])
            await hook.wait_for(5)
            await office.wait_until_idle("webhook")

    assert statuses(hook.bodies) == [("firing", "warning")] * 4 + [("resolved", "warning")]
    assert office.pauses_s == [1, 2, 4]
    assert office.report("webhook") == DestinationReport(
        name="webhook", num_sent=2, num_failed=0, num_dropped=0, num_waiting=0, problem=""
    )
    assert office.errors == ["DeliveryError"] * 3


async def test_what_is_refused_for_good_is_not_sent_again() -> None:
    async with Receiver(400).serve() as hook:
        office = Office(WebhookDestination(hook.url))
        async with office.open():
            office.delivery.put([firing(), ended(firing())], [])
            await hook.wait_for(2)
            await office.wait_until_idle("webhook")

    assert statuses(hook.bodies) == [("firing", "warning"), ("resolved", "warning")]
    assert (office.report("webhook").num_sent, office.report("webhook").num_failed) == (1, 1)


async def test_a_dead_destination_is_given_up_counted_and_named_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mm_orch")
    office = Office(WebhookDestination(f"http://127.0.0.1:{unused_port()}/secret"))
    async with office.open():
        office.delivery.put([firing()], [])
        await office.wait_until_idle("webhook")

    assert office.pauses_s[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    report = office.report("webhook")
    assert (report.num_sent, report.num_failed) == (0, 1)
    assert office.errors == ["ClientConnectorError"] * 8
    assert "webhook was not told of 1" in caplog.text
    assert "secret" not in caplog.text
    assert len(caplog.records) == 2


async def test_a_notice_that_has_become_too_old_is_not_sent() -> None:
    async with Receiver().serve() as hook:
        office = Office(WebhookDestination(hook.url), limits=DeliveryLimits(max_age_s=100))
        office.delivery.put([firing()], [])
        office.clock.now_s += 101
        office.delivery.put([ended(firing())], [])
        async with office.open():
            await hook.wait_for(1)
            await office.wait_until_idle("webhook")

    assert statuses(hook.bodies) == [("resolved", "warning")]
    assert office.report("webhook").num_failed == 1


async def test_a_silent_destination_holds_up_neither_who_tells_nor_another() -> None:
    limits = DeliveryLimits(max_notices=3, last_s=0.05)
    async with Receiver().serve() as silent, Receiver().serve() as hook:
        silent.is_silent = True
        office = Office(
            AlertmanagerDestination(silent.url, service="s"),
            WebhookDestination(hook.url),
            limits=limits,
        )
        async with office.open():
            office.delivery.put([firing()], [firing()])
            await silent.wait_for(1)
            for number in range(1, 10):
                office.delivery.put([firing(message=str(number))], [])
                await hook.wait_for(number + 1)
            await office.wait_until_idle("webhook")

    assert [body["message"] for body in hook.bodies] == ["it is slow", *"123456789"]
    assert office.report("alertmanager").num_sent == 0


async def test_more_than_there_is_room_for_is_dropped_and_counted() -> None:
    async with Receiver().serve() as hook:
        hook.is_silent = True
        limits = DeliveryLimits(max_notices=3, last_s=0.05)
        office = Office(WebhookDestination(hook.url), limits=limits)
        async with office.open():
            office.delivery.put([firing()], [])
            await hook.wait_for(1)
            for _ in range(10):
                office.delivery.put([firing()], [])
            report = office.report("webhook")

    assert (report.num_waiting, report.num_dropped) == (3, 8)
    assert office.errors == ["QueueFull"] * 8


async def test_what_waits_at_the_end_is_tried_once_more() -> None:
    async with Receiver(500).serve() as hook:
        office = Office(WebhookDestination(hook.url), pauses_end=False)
        async with office.open():
            office.delivery.put([firing(), ended(firing())], [])
            await office.observer.wait_for(ErrorOccurred)

    assert statuses(hook.bodies) == [
        ("firing", "warning"),
        ("firing", "warning"),
        ("resolved", "warning"),
    ]


async def test_the_end_does_not_wait_for_a_silent_destination(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Receiver().serve() as hook:
        hook.is_silent = True
        office = Office(WebhookDestination(hook.url), limits=DeliveryLimits(last_s=0.05))
        async with office.open():
            office.delivery.put([firing(), firing()], [])
            await hook.wait_for(1)

    assert "webhook was not told of 2 before the end" in caplog.text
    assert office.report("webhook").num_failed == 2


async def test_a_fault_in_a_destination_stays_its_own() -> None:
    class Faulty(LogDestination):
        name = "faulty"

        async def send(self, notices: object) -> None:
            raise ZeroDivisionError(notices)

    async with Receiver().serve() as hook:
        office = Office(Faulty(), WebhookDestination(hook.url))
        async with office.open():
            office.delivery.put([firing()], [])
            await hook.wait_for(1)
            await office.wait_until_idle("faulty")

    assert office.report("faulty").num_failed == 1
    assert office.errors == ["ZeroDivisionError"]


async def test_an_alertmanager_that_was_away_is_told_the_present() -> None:
    async with Receiver(503).serve() as manager:
        office = Office(AlertmanagerDestination(manager.url, service="s"))
        async with office.open():
            office.delivery.put([], [firing()])
            await manager.wait_for(1)
            office.delivery.put([], [firing(Severity.CRITICAL)])
            await manager.wait_for(2)
            await office.wait_until_idle("alertmanager")

    labels = [one["labels"]["severity"] for one in manager.bodies[-1]]
    assert labels == ["warning", "critical"]
