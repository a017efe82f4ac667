"""Makes the mind of what is configured, and keeps it going for as long as the system runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.consciousness.goals import Goals
from mm_orch.consciousness.keeping import Keeper
from mm_orch.consciousness.mind import Mind, MindSettings
from mm_orch.consciousness.stages import StageRules
from mm_orch.storage.sqlite_outcomes import SqliteOutcomes, open_outcome_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.config.schema.consciousness import ConsciousnessSettings
    from mm_orch.consciousness.mind import Senses


@asynccontextmanager
async def open_mind(
    configured: ConsciousnessSettings, senses: Senses, path: Path | None
) -> AsyncIterator[Mind]:
    """Give a mind that remembers what it knew; on leaving, all that it knows is stored.

    Args:
        configured: its options.
        senses: where facts come from.
        path: of the file of what it remembers; None keeps it for the life of the process.
    """
    if path is None:
        yield Mind(_settings_of(configured), senses)
        return
    database = open_outcome_database(path)
    try:
        store = SqliteOutcomes(database)
        mind = Mind(_settings_of(configured), senses, store)
        async with Keeper(mind.state, store).running():
            yield mind
    finally:
        await database.close()


def _settings_of(configured: ConsciousnessSettings) -> MindSettings:
    goals, emotion, development = configured.goals, configured.emotion, configured.development
    return MindSettings(
        goals=Goals(quality=goals.quality, latency=goals.latency, cost=goals.cost),
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
