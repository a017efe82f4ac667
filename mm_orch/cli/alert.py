"""Sends a test alert to every configured destination and prints which took it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.cli import exit_codes, terminal

if TYPE_CHECKING:
    from mm_orch.config import LoadedConfig

_NAME_WIDTH = 12
_KEY_BY_NAME = {
    "webhook": "monitoring.anomaly.webhook_url",
    "alertmanager": "monitoring.anomaly.alertmanager_url",
}


def send_test_alert(loaded: LoadedConfig) -> int:
    """Send it; return 0 when every destination took it, else 1."""
    from mm_orch.monitoring.alerts import trial
    from mm_orch.monitoring.alerts.assembly import open_destinations
    from mm_orch.monitoring.alerts.watch import utc_now

    monitoring = loaded.config.monitoring
    destinations = open_destinations(monitoring.anomaly, monitoring.tracing.service_name)
    if not destinations:
        terminal.complain(
            "there is nowhere to send it: give monitoring.anomaly.alert_destinations one or more"
            " of log, webhook, alertmanager"
        )
        return exit_codes.FAILED
    outcomes = asyncio.run(trial.send_test_alert(destinations, at=utc_now()))
    for outcome in outcomes:
        words = f"failed: {outcome.problem}" if outcome.problem else "took it"
        terminal.say(f"{outcome.name:<{_NAME_WIDTH}} {words}")
    _say_whether_alerts_are_on(loaded)
    keys = [_KEY_BY_NAME[one.name] for one in outcomes if one.problem and one.name in _KEY_BY_NAME]
    if keys:
        terminal.complain(
            f"not every destination took the test alert: check {' and '.join(keys)}, and that"
            " what is there runs and can be reached from here"
        )
    return exit_codes.FAILED if any(one.problem for one in outcomes) else exit_codes.DONE


def _say_whether_alerts_are_on(loaded: LoadedConfig) -> None:
    monitoring = loaded.config.monitoring
    if not (monitoring.enabled and monitoring.anomaly.enabled):
        key = "monitoring.anomaly.enabled" if monitoring.enabled else "monitoring.enabled"
        terminal.remark(f"No other alert will come: {key} is false.")
