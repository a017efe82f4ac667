"""The operator console in a real browser, against a real server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests import odd_engines as odd
from tests.e2e import console_answers as answers
from tests.e2e.console_browser import (
    LOOKS,
    MISSED,
    PAGES,
    REFUSED,
    UNSEEN,
    expect,
    keep_picture,
    model_card,
    needs_chromium,
    show,
    start_plugged,
    tab_through,
    watched,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

    from tests.processes import ServerProcess

ENDLESS = {
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "max_tokens": 7000,
    "ignore_eos": True,
    "stream": True,
}

pytestmark = [
    pytest.mark.model,
    needs_chromium,
]


@pytest.fixture(scope="module")
def slow(
    builtin_model: object,  # noqa: ARG001 - must be there before the server starts
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """A server that takes 50 ms for a token."""
    directory = tmp_path_factory.mktemp("slow")
    server = start_plugged(directory, odd.install(directory), ["slow"])
    yield server
    server.stop()


@pytest.fixture
def page(browser: Browser, echo: ServerProcess) -> Iterator[Page]:
    with watched(browser, echo) as page:
        yield page


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_in_every_look(
    name: str, look: str, browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo, **LOOKS[look]) as page:
        show(page, name)
        expect(page.get_by_text(re.compile("^Reading "))).to_have_count(0)
        if name == "overview":
            expect(page.locator(".plot canvas")).to_have_count(8)

        keep_picture(page, f"{name.replace('/', '-')}-{look}")

        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]


@pytest.mark.parametrize("width", [390, 320])
def test_the_name_of_the_page_is_in_sight_beside_a_firing_alert(
    width: int, browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo, viewport={"width": width, "height": 844}) as page:
        show(page, "playground")
        expect(page.get_by_label("1 firing")).to_be_visible()

        expect(page.get_by_role("link", name="Playground")).to_be_in_viewport(ratio=0.99)


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_reaches_every_control_and_shows_where_it_is(name: str, page: Page) -> None:
    show(page, name)
    expect(page.get_by_text(re.compile("^Reading "))).to_have_count(0)

    tab_through(page)

    assert page.evaluate(MISSED) == []
    assert page.evaluate(UNSEEN) == []


def test_links_and_rows_work_by_keyboard_and_escape_goes_back(page: Page) -> None:
    page.get_by_role("link", name="Requests").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    row = page.get_by_role("button", name=re.compile("Explain the request")).first
    row.focus()

    page.keyboard.press("Space")

    expect(page.get_by_role("heading", name="Why 4.1 s?")).to_be_focused()
    expect(row).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Why 4.1 s?")).to_have_count(0)
    expect(row).to_be_focused()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("req-queued", "Waited 3.2 s of 4.1 s: 8 requests ran and 12 waited before it"),
        ("req-prefill", "Long prompt: 1,500 tokens took 2.1 s to prefill"),
        ("req-failover", "Engine openvino was lost after 31 tokens; pytorch went on 1.8 s later."),
        ("req-batch", "its steps were shared with up to 32 sequences, 95 ms a token."),
        ("req-timeout", "Waited 30.0 s and never ran: 8 requests ran and 40 waited before it"),
    ],
)
def test_a_request_is_explained_in_a_sentence_and_drawn(
    name: str, sentence: str, page: Page
) -> None:
    page.goto(f"{page.url}#/requests/{name}")

    expect(page.locator(".why-first")).to_contain_text(sentence)
    lanes = 2 if name == "req-failover" else 1
    expect(page.locator(".lane:not(.axis)")).to_have_count(lanes)
    expect(page.locator(".lost")).to_have_count(lanes - 1)


def test_the_playground_streams_and_says_who_answered(
    browser: Browser, slow: ServerProcess
) -> None:
    with watched(browser, slow) as page:
        show(page, "playground")
        page.get_by_label("System prompt").fill(
            "<b>Speak</b> slowly, and then say it again." + " And once more, if you please." * 8
        )
        page.get_by_label("Message").fill("Hello")
        page.keyboard.press("Enter")

        log = page.get_by_role("log")
        # It grows while it is not over yet.
        expect(log.locator(".streaming")).to_contain_text("<b>Speak</b>")
        expect(log).to_have_attribute("aria-busy", "true")
        expect(log).to_have_attribute("aria-busy", "false", timeout=30_000)
        told = log.locator(".facts")
        for words in (answers.MODEL, "slow", "First token", "Tokens a second", "From the cache"):
            expect(told).to_contain_text(words)
        keep_picture(page, "playground-answer")


def test_an_answer_is_stopped_by_its_button(browser: Browser, slow: ServerProcess) -> None:
    with watched(browser, slow) as page:
        show(page, "playground")
        page.get_by_label("System prompt").fill("again and " * 300)
        page.get_by_label("Message").fill("Hello")
        page.get_by_role("button", name="Send").press("Enter")
        expect(page.locator(".streaming")).to_contain_text("again")

        page.get_by_role("button", name="Stop").press("Enter")

        expect(page.get_by_text("Stopped.")).to_be_visible()
        expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")


def test_a_model_is_unloaded_and_loaded(page: Page) -> None:
    show(page, "models")
    card = model_card(page)

    card.get_by_role("button", name="Unload").press("Enter")
    expect(card).to_contain_text("Unloaded")
    card.get_by_role("button", name="Load", exact=True).press("Enter")

    expect(card.locator(".pill")).to_have_text("Ready", timeout=30_000)


def test_a_busy_model_is_unloaded_only_on_purpose(browser: Browser, echo: ServerProcess) -> None:
    with (
        watched(browser, echo, allowed=f"{REFUSED} 409") as page,
        echo.open_stream(ENDLESS) as stream,
    ):
        next(iter(stream))
        show(page, "models")
        card = model_card(page)
        card.get_by_role("button", name="Unload").click()
        expect(card.get_by_role("alert")).to_contain_text("answers requests now")
        keep_picture(page, "models-busy")

        with page.expect_response("**/unload?force=true") as response:
            card.get_by_role("button", name="Unload anyway").click()

        assert response.value.status == 200
        expect(card.get_by_role("alert")).to_have_count(0)
        expect(card.locator(".pill")).to_have_text("Unloaded", timeout=30_000)


def test_why_a_model_runs_elsewhere_is_told(
    browser: Browser,
    builtin_model: object,  # noqa: ARG001 - must be there before the server starts
    tmp_path: Path,
) -> None:
    switch = odd.install(tmp_path)
    switch.turn_on()
    server = start_plugged(tmp_path, switch, ["refusing", "spare"])
    try:
        with watched(browser, server) as page:
            health = page.get_by_role("region", name="Health")
            expect(health).to_contain_text("Degraded")
            expect(health).to_contain_text(f"Model {answers.MODEL} runs on spare in place of")
            keep_picture(page, "degraded")
            show(page, "models")
            card = model_card(page)
            expect(card).to_contain_text("Runs on spare in place of refusing: It does not want to.")
            keep_picture(page, "models-degraded")
    finally:
        server.stop()


def test_a_model_and_the_server_are_drained_and_resumed(page: Page, echo: ServerProcess) -> None:
    assert echo.request("POST", f"/api/models/{answers.MODEL}/load").status == 200
    show(page, "models")
    card = model_card(page)

    card.get_by_role("button", name="Drain").press("Enter")
    expect(card).to_contain_text("new ones are refused until it is resumed")
    assert echo.request("POST", "/v1/chat/completions", ENDLESS).status == 503
    card.get_by_role("button", name="Resume").press("Enter")
    expect(card.get_by_role("button", name="Drain")).to_be_visible()

    whole = page.get_by_role("region", name="The whole server")
    whole.get_by_role("button", name="Drain the server").press("Enter")
    whole.get_by_role("button", name="Drain it now").press("Enter")
    expect(whole.locator(".pill")).to_have_text("Draining")
    assert echo.request("GET", "/ready").status == 503
    whole.get_by_role("button", name="Resume the server").press("Enter")

    expect(whole.locator(".pill")).to_have_text("Takes requests")
    assert echo.request("GET", "/ready").status == 200


def test_what_really_happened_is_shown(browser: Browser, echo: ServerProcess) -> None:
    sent = {"messages": [{"role": "user", "content": "again " * 400}], "max_tokens": 50}
    reply = echo.request("POST", "/v1/chat/completions", sent, {"X-Request-ID": "real"})
    assert reply.status == 200

    with watched(browser, echo, is_made_up=False) as page:
        expect(page.locator(".plot canvas")).to_have_count(8)
        # Once there is a point, only newer ones are asked for.
        with page.expect_request(re.compile(r"/api/metrics\?after=\d")):
            pass
        expect(page.get_by_role("region", name="By model and engine")).to_contain_text("echo")
        show(page, "alerts")
        expect(page.get_by_text("Nothing fires.")).to_be_visible()
        page.goto(f"{page.url.partition('#')[0]}#/requests/real")
        expect(page.locator(".why-first")).not_to_be_empty()
        expect(page.locator(".detail")).to_contain_text("real")
        expect(page.locator(".detail .phase[data-kind=decode]").first).to_be_visible()


def test_a_server_that_is_away_is_told_and_found_again(
    browser: Browser, echo: ServerProcess
) -> None:
    with watched(browser, echo, allowed="Failed to load resource: net::") as page:
        expect(page.get_by_text("It serves, but an alert fires.")).to_be_visible()

        page.context.set_offline(True)
        expect(page.get_by_role("alert")).to_contain_text("has not answered since", timeout=15_000)
        expect(page.get_by_text("It serves, but an alert fires.")).to_be_visible()
        keep_picture(page, "away")
        page.context.set_offline(False)

        expect(page.get_by_role("alert")).to_have_count(0, timeout=15_000)


def test_nothing_is_asked_while_the_page_is_hidden(browser: Browser, echo: ServerProcess) -> None:
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with watched(browser, echo) as page:
        page.clock.install()
        page.reload()
        expect(page.get_by_text("It serves, but an alert fires.")).to_be_visible()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))

        page.evaluate(hide, arg=True)
        page.clock.run_for(60_000)
        assert asked == []

        with page.expect_request("**/api/status"):
            page.evaluate(hide, arg=False)


def test_the_theme_is_switched_and_kept(page: Page) -> None:
    button = page.get_by_role("button", name="Theme: system")
    button.press("Enter")
    page.get_by_role("button", name="Theme: light").press("Enter")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    expect(page.locator(".plot canvas").first).to_be_visible()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.reload()

    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert dark != "rgb(245, 246, 244)"


def test_with_monitoring_off_it_says_so(browser: Browser, echo: ServerProcess) -> None:
    told = "Nothing is observed here: monitoring.enabled is false."

    def refuse(route: Route) -> None:
        route.fulfill(status=404, json={"error": {"message": told, "type": "x", "code": None}})

    with watched(browser, echo, allowed=f"{REFUSED} 404") as page:
        for pattern in (re.compile("/api/metrics"), "**/admin/**"):
            page.route(pattern, refuse)
        page.reload()

        expect(page.get_by_text("There are no charts: monitoring is off.")).to_be_visible()
        expect(page.get_by_text("All is well.")).to_be_visible()
        keep_picture(page, "off")
        show(page, "alerts")
        expect(page.get_by_text(told)).to_be_visible()
        show(page, "requests")
        expect(page.get_by_text("No requests are kept")).to_be_visible()
