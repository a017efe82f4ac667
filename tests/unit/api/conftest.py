"""A store of sessions for the faces that keep some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.storage.scene import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.sqlite_sessions import SqliteSessions


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteSessions]:
    async with open_store(tmp_path) as opened:
        yield opened
