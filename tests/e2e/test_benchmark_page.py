"""The benchmark's page in a real browser, opened from its file with no network at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.benchmarking.page import to_page
from tests.e2e.console_browser import LOOKS, launched, needs_chromium
from tests.unit.benchmarking.test_report import report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = needs_chromium

COLOURS = """() => {
    const colour = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
    return {
        page: colour("body", "backgroundColor"), text: colour("body", "color"),
        chart: colour("svg .paper", "fill"), label: colour("svg text", "fill"),
        line: colour("svg .s0 polyline", "stroke"),
    };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as one:
        yield one


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "benchmark.html"
    path.write_text(to_page(report(model="organisation/a-name-" + "long-" * 20)))
    return path


def lightness(colour: str) -> float:
    red, green, blue = (int(part) for part in colour[4:-1].split(","))
    return (red + green + blue) / 3


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_is_complete_and_legible(browser: Browser, page_file: Path, look: str) -> None:
    context = browser.new_context(**LOOKS[look], offline=True)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(page_file.as_uri())

    assert asked == [page_file.as_uri()]
    assert errors == []
    assert page.locator("svg").count() == 13
    colours = page.evaluate(COLOURS)
    is_dark = look == "dark"
    assert colours["chart"] == colours["page"]
    assert (lightness(colours["page"]) < 60) == is_dark
    for mark in ("text", "label", "line"):
        assert abs(lightness(colours[mark]) - lightness(colours["page"])) > 100, mark
    # What is wide scrolls within itself.
    is_narrow = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(is_narrow)
    context.close()
