"""The key that the operator console asks for, in a real browser, against a real server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console_browser import (
    ECHO,
    REFUSED,
    expect,
    keep_picture,
    model_card,
    needs_chromium,
    show,
    watched,
)
from tests.processes import ServerProcess, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

KEYS = {
    "api": {
        "enable_auth": True,
        "api_keys": [
            {"name": "user", "key": "plain-key"},
            {"name": "root", "key": "root-key", "admin": True},
        ],
    },
}
pytestmark = [
    pytest.mark.model,
    needs_chromium,
]


@pytest.fixture
def locked(
    builtin_model: object,  # noqa: ARG001 - must be there before the server starts
    tmp_path: Path,
) -> Iterator[ServerProcess]:
    """A server that asks for keys."""
    server = start_server(tmp_path, config=ECHO | KEYS)
    yield server
    server.stop()


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_a_key_is_asked_for_and_a_wrong_or_weak_one_is_told(
    browser: Browser, locked: ServerProcess
) -> None:
    with watched(browser, locked, allowed=f"{REFUSED} 40[13]", is_made_up=False) as page:
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This server asks for a key.")
        keep_picture(page, "key")
        give_key(page, "wrong-key")
        expect(dialog).to_contain_text("The server does not know this key.")
        give_key(page, "plain-key")
        expect(page.get_by_text("All is well.")).to_be_visible()

        show(page, "requests")
        expect(page.get_by_role("alert")).to_contain_text("This call needs an admin's key.")
        show(page, "models")
        card = model_card(page)
        card.get_by_role("button", name="Unload").click()
        expect(card.get_by_role("alert")).to_contain_text("This call needs an admin's key.")
        keep_picture(page, "key-weak")
        card.get_by_role("button", name="Use another key").click()
        give_key(page, "root-key")
        card.get_by_role("button", name="Unload").click()

        expect(card).to_contain_text("Unloaded")
        kept = page.evaluate("[JSON.stringify(localStorage), document.cookie]")
        assert not any("key" in text for text in kept)


def test_a_late_refusal_of_an_older_key_asks_for_no_other(
    browser: Browser, locked: ServerProcess
) -> None:
    held: list[Route] = []

    def hold_wrong(route: Route) -> None:
        if "wrong-key" in route.request.headers.get("authorization", ""):
            held.append(route)
        else:
            route.continue_()

    with watched(browser, locked, allowed=f"{REFUSED} 40[13]", is_made_up=False) as page:
        page.route("**/*", hold_wrong)
        with page.expect_request(lambda one: one.url.endswith("api/status")):
            give_key(page, "wrong-key")
        page.get_by_role("button", name="Key", exact=True).click()
        give_key(page, "plain-key")
        expect(page.get_by_text("All is well.")).to_be_visible()

        with page.expect_response(lambda one: one.status == HTTPStatus.UNAUTHORIZED):
            for route in held:
                route.continue_()
        # Drawn anew with the next answer.
        with page.expect_response(lambda one: one.url.endswith("api/status")):
            pass

        expect(page.get_by_role("dialog")).to_have_count(0)
