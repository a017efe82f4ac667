from __future__ import annotations

import logging
import socket
from datetime import timedelta

import pytest

from mm_orch.monitoring.alerts.alert import HIGH_MEMORY, Identity, Severity
from mm_orch.monitoring.alerts.destinations import (
    AlertmanagerDestination,
    DestinationSettings,
    LogDestination,
    WebhookDestination,
    make_destinations,
)
from mm_orch.monitoring.alerts.http_post import DeliveryError, JsonPost
from tests.alert_receiver import Receiver
from tests.unit.monitoring.alerts.alerts import at, ended, firing


async def refusal(url: str, *, timeout_s: float = 10, shows_answers: bool = False) -> DeliveryError:
    post = JsonPost(url, timeout_s=timeout_s, shows_answers=shows_answers)
    try:
        with pytest.raises(DeliveryError) as refused:
            await post.post({})
    finally:
        await post.aclose()
    return refused.value


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_a_webhook_gets_the_bodies_of_the_contract() -> None:
    async with Receiver().serve() as receiver:
        webhook = WebhookDestination(f"{receiver.url}/hook")
        await webhook.send([firing(Severity.ERROR), ended(firing(Severity.ERROR))])
        await webhook.aclose()

    assert receiver.paths == ["/hook", "/hook"]
    assert receiver.bodies[0] == {
        "alert_type": "high_latency",
        "severity": "error",
        "message": "it is slow",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "status": "firing",
        "metadata": {
            "model": "small",
            "engine": "pytorch",
            "value": 2.0,
            "limit": 1.0,
            "starts_at": "2026-01-02T03:04:05+00:00",
            "ends_at": None,
        },
    }
    assert receiver.bodies[1]["status"] == "resolved"
    assert receiver.bodies[1]["metadata"]["ends_at"] == "2026-01-02T03:05:05+00:00"


async def test_an_alertmanager_gets_labels_annotations_and_times() -> None:
    memory = firing(identity=Identity(HIGH_MEMORY))
    async with Receiver().serve() as receiver:
        manager = AlertmanagerDestination(f"{receiver.url}/", service="s", lifetime_s=240)
        await manager.send([firing(), ended(memory)])
        await manager.aclose()

    assert receiver.paths == ["/api/v2/alerts"]
    assert receiver.bodies == [
        [
            {
                "labels": {
                    "alertname": "high_latency",
                    "severity": "warning",
                    "service": "s",
                    "model": "small",
                    "engine": "pytorch",
                },
                "annotations": {
                    "summary": "high latency: small on pytorch",
                    "description": "it is slow",
                },
                "startsAt": at(0).isoformat(),
                "endsAt": (at(0) + timedelta(minutes=4)).isoformat(),
            },
            {
                "labels": {"alertname": "high_memory", "severity": "warning", "service": "s"},
                "annotations": {"summary": "high memory", "description": "it is slow"},
                "startsAt": at(0).isoformat(),
                "endsAt": at(60).isoformat(),
            },
        ]
    ]


async def test_a_log_line_is_as_loud_as_the_alert_is_grave(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = LogDestination()

    await log.send([firing(severity) for severity in Severity])
    await log.send([ended(firing())])
    await log.aclose()

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "alert firing high_latency: it is slow"),
        ("ERROR", "alert firing high_latency: it is slow"),
        ("CRITICAL", "alert firing high_latency: it is slow"),
        ("INFO", "alert resolved high_latency: it is slow"),
    ]


@pytest.mark.parametrize(
    ("status", "may_retry"),
    [(302, False), (400, False), (404, False), (408, True), (429, True), (500, True), (503, True)],
)
async def test_what_is_refused_for_now_may_be_sent_again(status: int, may_retry: bool) -> None:  # noqa: FBT001 - a table
    async with Receiver(status).serve() as receiver:
        error = await refusal(f"{receiver.url}/secret")

    assert str(error) == f"it answered {status}"
    assert error.may_retry is may_retry
    assert len(receiver.bodies) == 1


async def test_what_an_alertmanager_says_of_a_refusal_is_told() -> None:
    async with Receiver(400).serve() as receiver:
        error = await refusal(receiver.url, shows_answers=True)

    assert str(error) == "it answered 400: a reason"


async def test_a_dead_place_is_told_of_without_its_address() -> None:
    error = await refusal(f"http://127.0.0.1:{unused_port()}/secret?token=secret")

    assert error.may_retry
    assert error.error_type == "ClientConnectorError"
    assert "secret" not in str(error)
    assert str(error) == "Connection refused"


async def test_a_place_that_hangs_may_be_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Connections wait to be taken for ever.
        error = await refusal(f"http://127.0.0.1:{listener.getsockname()[1]}/secret", timeout_s=0.1)

    assert error.may_retry
    assert (str(error), error.error_type) == ("no answer within 0.1 s", "TimeoutError")


async def test_an_address_that_is_none_is_not_tried_again() -> None:
    error = await refusal("http://[secret/x")

    assert not error.may_retry
    assert "secret" not in str(error)


def test_destinations_are_made_once_each_in_their_order() -> None:
    settings = DestinationSettings(
        names=("alertmanager", "log", "webhook", "log"),
        webhook_url="http://h/x",
        alertmanager_url="http://h:9093",
    )

    assert [one.name for one in make_destinations(settings)] == ["alertmanager", "log", "webhook"]


def test_a_destination_without_its_address_is_refused() -> None:
    with pytest.raises(ValueError, match="webhook has no address"):
        make_destinations(DestinationSettings(names=("webhook",)))
