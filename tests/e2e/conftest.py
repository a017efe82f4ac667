"""The browser and the server that the console's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.processes import ServerProcess


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Whoever asks for no browser needs no playwright.
    from tests.e2e.console_browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def echo(
    builtin_model: object,  # noqa: ARG001 - must be there before the server starts
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """A server that answers at once."""
    from tests.e2e.console_browser import ECHO
    from tests.processes import start_server

    server = start_server(tmp_path_factory.mktemp("echo"), config=ECHO)
    yield server
    server.stop()
