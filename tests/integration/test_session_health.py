"""What /health tells of the stored sessions: while they fail, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import StorageError
from mm_orch.orchestration.reports import HealthStatus

if TYPE_CHECKING:
    from pathlib import Path


async def test_sessions_that_nobody_uses_make_no_file_and_those_that_fail_are_told_of(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.write_text("no folder")
    settings = {"system.data_dir": str(data)}
    config = load_config(path=None, environ={}, overrides=settings).config
    async with open_runtime(config) as runtime:
        sessions = runtime.workflows.sessions
        before = runtime.status.health()
        with pytest.raises(StorageError):
            await sessions.list_sessions("", limit=1)
        failing = runtime.status.health()
        data.unlink()
        await sessions.list_sessions("", limit=1)
        after = runtime.status.health()

    assert [one.status for one in (before, after)] == [HealthStatus.HEALTHY] * 2
    assert failing.status is HealthStatus.DEGRADED
    [reason] = failing.degradation_reasons
    assert (
        reason
        == "no session or document can be stored: sessions.sqlite3 cannot be used: File exists."
    )
