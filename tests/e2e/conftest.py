"""The browser that the console's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Whoever asks for no browser needs no playwright.
    from tests.e2e.console_browser import launched

    with launched() as browser:
        yield browser
