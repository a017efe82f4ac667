"""Makes the mind of what is configured, and keeps it going for as long as the system runs."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from mm_orch.consciousness.goals import goals_of
from mm_orch.consciousness.keeping import Keeper
from mm_orch.consciousness.mind import Mind, MindSettings, Senses
from mm_orch.consciousness.stages import StageRules
from mm_orch.storage.outcome_schema import open_outcome_database
from mm_orch.storage.sql_outcomes import SqlOutcomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from mm_orch.config import Config
    from mm_orch.config.schema.consciousness import ConsciousnessSettings
    from mm_orch.consciousness.mind import FindStatus, FindWorkflows
    from mm_orch.core.events import Observer
    from mm_orch.core.mind_report import WorkflowFacts
    from mm_orch.storage.outcomes import OutcomeStore


FILE = "consciousness.sqlite3"
"""In the data directory: what is remembered."""


@asynccontextmanager
async def open_mind(
    config: Config,
    *,
    find_status: FindStatus,
    find_workflows: FindWorkflows,
    observer: Observer,
    is_kept: bool,
    shared: OutcomeStore | None = None,
) -> AsyncIterator[Mind]:
    """Give a mind that remembers what it knew; on leaving, all that it knows is stored.

    Args:
        config: the whole configuration.
        find_status: of models, engines and load.
        find_workflows: those that are installed, available or broken.
        observer: told of what moves it.
        is_kept: what it remembers outlasts the process.
        shared: keeps that for several servers; None for a file of this one's own.
    """
    settings = _settings_of(config.consciousness)
    senses = _make_senses(config, find_status, find_workflows)
    if not is_kept:
        yield Mind(settings, senses, observer=observer)
        return
    async with nullcontext(shared) if shared is not None else _open_file(config) as store:
        mind = Mind(settings, senses, observer=observer, store=store)
        async with Keeper(mind.state, store).running():
            yield mind


@asynccontextmanager
async def _open_file(config: Config) -> AsyncIterator[OutcomeStore]:
    database = open_outcome_database(config.system.data_directory / FILE)
    try:
        yield SqlOutcomes(database)
    finally:
        await database.close()


def _make_senses(config: Config, find_status: FindStatus, find_workflows: FindWorkflows) -> Senses:
    has_workflows = config.workflows.enabled

    async def find_served() -> Sequence[WorkflowFacts]:
        return await find_workflows() if has_workflows else ()

    return Senses(
        find_status=find_status,
        find_workflows=find_served,
        features={
            "workflows": has_workflows,
            "sessions": has_workflows,
            "documents": has_workflows,
            "monitoring": config.monitoring.enabled,
        },
        now=time.time,
    )


def _settings_of(configured: ConsciousnessSettings) -> MindSettings:
    emotion, development = configured.emotion, configured.development
    return MindSettings(
        goals=goals_of(configured),
        rules=StageRules(
            workflows_by_stage=(
                development.stage_0,
                development.stage_1,
                development.stage_2,
                development.stage_3,
            ),
            min_successes=development.min_successes,
            min_success_ratio=development.min_success_ratio,
        ),
        has_emotions=emotion.enabled,
        mood_half_life_s=emotion.half_life_s,
        max_temperature_offset=emotion.max_temperature_offset,
        is_gating=development.enabled,
        memory_half_life_s=configured.memory.half_life_s,
    )
