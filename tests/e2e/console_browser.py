"""A browser that watches what the console does, and shows pages of it."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.available import needs_program
from tests.e2e import console_answers as answers
from tests.e2e import mind_answer
from tests.processes import ROOT, ServerProcess, start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, Route

    from tests import odd_engines as odd

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

CHROMIUM = "chromium"
needs_chromium = needs_program(CHROMIUM)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ECHO = {"models": {answers.MODEL: {"engines": ["echo"]}}}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
PAGES = {
    "overview": "Overview",
    "models": "Engines and models",
    "alerts": "Alerts",
    "requests": "Recent requests",
    "requests/req-failover": "Recent requests",
    "tuner": "Tuner",
    "self": "What the system knows of itself",
    "playground": "Playground",
}
# What the browser itself notes of an answer with such a status; the page shows it in words.
REFUSED = "Failed to load resource: the server responded with a status of"


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium, without a window and without calls home."""
    with playwright.sync_playwright() as driver:
        # Without a path, playwright would look for a browser of its own.
        path = shutil.which(CHROMIUM) or CHROMIUM
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def intercept(page: Page) -> None:
    """Answer with what a real server would need hours and bad luck for."""
    for pattern, made_up in {
        re.compile("/api/metrics"): answers.metrics,
        "**/admin/alerts": answers.alerts,
        "**/admin/tuner": answers.tuner,
        "**/api/consciousness": mind_answer.mind,
        "**/admin/requests?*": answers.requests,
    }.items():
        page.route(pattern, _answering(made_up))


def _answering(made_up: Callable[[], dict[str, Any]]) -> Callable[[Route], None]:
    return lambda route: route.fulfill(json=made_up())


@contextmanager
def watched(
    browser: Browser,
    server: ServerProcess,
    *,
    allowed: str = "",
    is_made_up: bool = True,
    **options: Any,
) -> Iterator[Page]:
    """A page of the console; at its end nothing must have gone wrong, or elsewhere.

    Args:
        allowed: pattern of what the browser may note as an error.
        is_made_up: show made up measurements, alerts and requests; else the server's own.
    """
    context = browser.new_context(**LOOKS["light"] | options)
    page = context.new_page()
    errors: list[str] = []
    urls: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else 0
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    if is_made_up:
        intercept(page)
    page.goto(f"{server.url}/console")
    yield page
    context.close()
    assert [url for url in urls if not url.startswith(f"{server.url}/")] == []
    assert [error for error in errors if not (allowed and re.match(allowed, error))] == []


def show(page: Page, name: str) -> None:
    page.goto(f"{page.url.partition('#')[0]}#/{name}")
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES.get(name, name))


def keep_picture(page: Page, name: str) -> None:
    folder = os.environ.get("MUAI_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"console-{name}.png", full_page=True)


def model_card(page: Page, name: str = answers.MODEL) -> Any:
    return page.locator(".model").filter(has=page.get_by_role("heading", name=name, exact=True))


def start_plugged(directory: Path, switch: odd.Switch, engines: list[str]) -> ServerProcess:
    """Start a server whose model runs with engines of the tests."""
    path = os.pathsep.join([switch.environment["PYTHONPATH"], str(ROOT)])
    return start_server(
        directory,
        config={"models": {answers.MODEL: {"engines": engines}}},
        environment={**switch.environment, "PYTHONPATH": path},
    )


CONTROLS = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary")].filter((one) => one.checkVisibility())"""
NOTE_FOCUS = """() => {
    const one = document.activeElement;
    if (one === document.body) return false;
    const style = getComputedStyle(one);
    const isSeen = one.matches(":focus-visible")
        && (style.outlineStyle !== "none" || style.boxShadow !== "none");
    window.reached ??= new Map();
    if (window.reached.has(one)) return false;
    window.reached.set(one, isSeen);
    return true;
}"""
MISSED = f"({CONTROLS})().filter((one) => !window.reached.has(one)).map((one) => one.outerHTML)"
UNSEEN = "[...window.reached].filter(([, isSeen]) => !isSeen).map(([one]) => one.outerHTML)"


def tab_through(page: Page) -> None:
    """Go from control to control, from the top until one comes again, and note each."""
    page.locator("body").evaluate("(body) => { body.tabIndex = -1; body.focus(); }")
    page.keyboard.press("Tab")
    while page.evaluate(NOTE_FOCUS):
        page.keyboard.press("Tab")
