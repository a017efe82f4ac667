"""The alerts' page of the operator console, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.monitoring.alerts.alert import ALERT_TYPES
from tests.e2e import console_answers as answers
from tests.e2e.console_browser import expect, needs_chromium, show, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.processes import ServerProcess

pytestmark = [pytest.mark.model, needs_chromium]

MEASURED = {
    "high_latency": (26_400.0, 5000.0, "26.4 s where 5.0 s is the limit"),
    "high_error_rate": (0.264, 0.05, "26 % where 5.0 % is the limit"),
    "high_memory": (93.5, 90.0, "93.5 % where 90 % is the limit"),
    "low_throughput": (0.4, 2.0, "0.4 requests/s where 2 requests/s is the limit"),
    "gpu_failed": (1.0, 0.0, "1 GPU where 0 GPUs is the limit"),
    "anomaly": (0.75, 0.2, "750 ms where 200 ms is the limit"),
}


def test_what_was_measured_is_told_with_its_unit(browser: Browser, echo: ServerProcess) -> None:
    assert set(MEASURED) == set(ALERT_TYPES)
    told = answers.alerts()
    [alert] = told["firing"]
    told["firing"] = [
        {**alert, "alert_type": kind, "value": value, "limit": limit}
        for kind, (value, limit, _) in MEASURED.items()
    ]

    with watched(browser, echo) as page:
        page.route("**/admin/alerts", lambda route: route.fulfill(json=told))
        show(page, "alerts")

        for _, _, sentence in MEASURED.values():
            expect(page.get_by_text(sentence)).to_be_visible()


def test_a_destination_that_takes_no_alerts_is_shown_with_its_problem(
    browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo) as page:
        show(page, "alerts")

        webhook = page.get_by_role("row").filter(has_text="webhook")
        expect(webhook).to_contain_text("Does not take them")
        expect(webhook).to_contain_text("HTTP 503")
