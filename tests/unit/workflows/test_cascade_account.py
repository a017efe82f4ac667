"""Under which model a cascade is remembered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.workflow_events import WorkflowFinished
from mm_orch.workflows.account import Watch
from tests.unit.api.scripted_generator import EventList
from tests.unit.storage.scene import open_store
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.test_cascade import QUESTION, UNSURE, fault, scripted, settings, tokens
from tests.unit.workflows.test_chat_generate import make_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlSessions]:
    async with open_store(tmp_path) as opened:
        yield opened


async def test_where_the_larger_model_fails_the_run_is_recorded_under_the_drafts_model(
    store: SqlSessions,
) -> None:
    told = EventList()
    generator = scripted(tokens("Lyon", UNSURE), [fault()])
    watch = Watch(told, time.monotonic)
    workflows = make_workflows(generator, store, settings(large_model="large"), watch=watch)

    async with workflows.open("cascade", make_call(QUESTION)) as run:
        await run.complete()

    [end] = [one for one in told.events if isinstance(one, WorkflowFinished)]
    assert (end.status, end.model) == ("success", "small")
