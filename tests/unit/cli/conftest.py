from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.scripted_server import Script, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def peer() -> Iterator[Script]:
    """A running peer; tests change its script before they ask."""
    with serve(Script()) as script:
        yield script
