from __future__ import annotations

from mm_orch.monitoring.alerts.destinations import (
    AlertmanagerDestination,
    LogDestination,
    WebhookDestination,
)
from mm_orch.monitoring.alerts.trial import Outcome, send_test_alert
from tests.alert_receiver import Receiver
from tests.unit.monitoring.alerts.alerts import AT


async def test_a_test_alert_goes_to_every_destination_and_each_outcome_is_told() -> None:
    async with Receiver().serve() as hook, Receiver(503).serve() as manager:
        outcomes = await send_test_alert(
            [
                LogDestination(),
                WebhookDestination(hook.url),
                AlertmanagerDestination(manager.url, service="s"),
            ],
            at=AT,
        )

    assert outcomes == (
        Outcome("log"),
        Outcome("webhook"),
        Outcome("alertmanager", "it answered 503: a reason"),
    )
    assert [(body["alert_type"], body["status"]) for body in hook.bodies] == [
        ("test", "firing"),
        ("test", "resolved"),
    ]
    [[alert]] = manager.bodies
    assert alert["labels"]["alertname"] == "test"
    assert alert["endsAt"] > alert["startsAt"]
