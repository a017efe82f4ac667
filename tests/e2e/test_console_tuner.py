"""The tuner's page of the operator console, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.console_browser import REFUSED, expect, needs_chromium, show, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.processes import ServerProcess

pytestmark = [
    pytest.mark.model,
    needs_chromium,
]


def test_a_decision_of_the_tuner_is_shown_with_its_reason_and_what_came_of_it(
    browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo) as page:
        show(page, "tuner")

        kept = page.get_by_role("row").filter(has_text="it helps: +46%")
        expect(kept).to_contain_text("max_batch_size 4 → 8")
        expect(kept).to_contain_text("169 tokens/s, p95 2.5 s")
        expect(kept).to_contain_text("246 tokens/s, p95 2.9 s")
        for option, note in (
            ("max_batch_size", "On trial, before 8."),
            ("batch_timeout_ms", "Left alone, as the configuration says."),
            ("max_memory_mb", "Left alone, as the engine cannot change it."),
        ):
            row = page.get_by_role("table", name="Tuned options").get_by_role("row")
            expect(row.filter(has_text=option)).to_contain_text(note)


def test_without_a_tuner_its_page_says_what_to_switch_on(
    browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo, allowed=REFUSED, is_made_up=False) as page:
        show(page, "tuner")

        expect(page.get_by_text("optimization.tuner.enabled is false")).to_be_visible()
