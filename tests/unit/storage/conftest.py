from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.storage.scene import Place


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a store of the test's own is kept: by each of the databases."""
    return tmp_path if request.param == "sqlite" else request.getfixturevalue("database_url")
