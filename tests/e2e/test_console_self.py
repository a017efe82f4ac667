"""The console's page of what the system knows of itself, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.console_browser import (
    ECHO,
    REFUSED,
    expect,
    keep_picture,
    needs_chromium,
    show,
    watched,
)
from tests.processes import start_server

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.processes import ServerProcess

pytestmark = [
    pytest.mark.model,
    needs_chromium,
]
MINUS = "\N{MINUS SIGN}"


def test_each_part_of_the_mind_is_shown_in_words_and_numbers(
    browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo) as page:
        show(page, "self")

        gated = page.get_by_role("row").filter(has_text="lesson_pack")
        expect(gated).to_contain_text("Gated")
        expect(gated).to_contain_text("It is of stage 2")
        failing = page.get_by_role("row").filter(has_text="large")
        expect(failing).to_contain_text("No engine could load it")
        mood = page.get_by_role("region", name="Mood")
        expect(mood).to_contain_text(f"Valence {MINUS}0.42")
        expect(mood).to_contain_text("Answer carefully, and say what you are not sure of.")
        expect(mood).to_contain_text(f"temperature {MINUS}0.04")
        expect(page.get_by_role("region", name="Goals")).to_contain_text("Quality 60 %")
        stage = page.get_by_role("region", name="Stage 1")
        expect(stage).to_contain_text("17 of 18 runs succeeded at this stage")
        expect(stage.locator("[aria-current]")).to_contain_text("rag_qa, search_qa")
        remembered = page.get_by_role("row").filter(has_text="rag_qa")
        expect(remembered).to_contain_text("87 %")
        expect(remembered).to_contain_text(f"{MINUS}0.25")


def test_what_has_happened_on_the_server_is_shown_by_itself(
    browser: Browser, fresh_data: dict[str, str], tmp_path: Path
) -> None:
    server = start_server(tmp_path, config=ECHO, environment=fresh_data)
    try:
        body = {"message": "Hi", "preferences": {"max_tokens": 4}}
        asked = server.request("POST", "/api/chat", body)
        assert asked.status == 200
        feedback = {"request_id": asked.headers["x-request-id"], "score": "up"}
        assert server.request("POST", "/api/feedback", feedback).status == 200
        with watched(browser, server, is_made_up=False) as page:
            show(page, "self")

            table = page.get_by_role("table", name="Past outcomes of workflows")
            row = table.get_by_role("row").filter(has_text="chat_generate")
            expect(row).to_contain_text("100 %")
            expect(row).to_contain_text("+1.00")
            mood = page.get_by_role("region", name="Mood")
            expect(mood).to_contain_text("It changes no answer")
            keep_picture(page, "self-real")
    finally:
        server.stop()


def test_switched_off_its_page_says_what_to_switch_on(
    browser: Browser, fresh_data: dict[str, str], tmp_path: Path
) -> None:
    config = ECHO | {"consciousness": {"enabled": False}}
    server = start_server(tmp_path, config=config, environment=fresh_data)
    try:
        with watched(browser, server, allowed=REFUSED, is_made_up=False) as page:
            show(page, "self")

            expect(page.get_by_text("consciousness.enabled is false")).to_be_visible()
    finally:
        server.stop()
