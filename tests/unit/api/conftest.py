"""A store of sessions for the faces that keep some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.storage.scene import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlSessions]:
    async with open_store(tmp_path) as opened:
        yield opened
