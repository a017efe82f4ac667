"""How sure the answers of a conversation are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.config import load_config
from mm_orch.core.generation import FinishReason, TextDelta
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.doubt import DoubtSettings
from mm_orch.workflows.running import WorkflowSettings
from mm_orch.workflows.settings import make_settings
from tests.unit.api.scripted_generator import say, tell
from tests.unit.storage.scene import open_store
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.test_cascade import QUESTION, SURE, scripted, tokens
from tests.unit.workflows.test_chat_generate import make_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlSessions]:
    async with open_store(tmp_path) as opened:
        yield opened


async def test_a_conversations_answer_tells_how_sure_it_is_without_its_thoughts(
    store: SqlSessions,
) -> None:
    thought = TextDelta(
        index=0,
        text="",
        num_tokens=1,
        reasoning="Hm",
        num_reasoning_tokens=1,
        logprobs=(tell("Hm", -5.0),),
    )
    generator = scripted([thought, *tokens("Paris", SURE)], say("Paris"))
    workflows = make_workflows(generator, store)

    for value in (pytest.approx(0.9), None):
        async with workflows.open("chat_generate", make_call(QUESTION)) as run:
            confidence = (await run.complete()).values[ANSWER].confidence
        assert (confidence and confidence.value) == value
    assert all(request.tells_logprobs for request in generator.requests)


async def test_confidence_that_is_switched_off_is_not_asked_for(store: SqlSessions) -> None:
    generator = scripted(tokens("Paris", SURE))
    workflows = make_workflows(generator, store, WorkflowSettings(tells_confidence=False))

    async with workflows.open("chat_generate", make_call(QUESTION)) as run:
        answer = (await run.complete()).values[ANSWER]

    assert answer.confidence is None
    assert not generator.requests[0].tells_logprobs
    assert answer.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("confidence", "consciousness", "cascade", "tells", "is_calibrated"),
    [
        (True, True, False, True, True),
        (False, True, False, False, False),
        (True, False, False, False, False),
        (True, False, True, False, True),
    ],
)
def test_what_nobody_goes_by_is_neither_told_nor_read(
    *, confidence: bool, consciousness: bool, cascade: bool, tells: bool, is_calibrated: bool
) -> None:
    overrides = {
        "workflows.confidence.enabled": confidence,
        "consciousness.enabled": consciousness,
        "workflows.cascade.enabled": cascade,
    }
    settings = make_settings(load_config(path=None, environ={}, overrides=overrides).config)

    assert settings.tells_confidence is tells
    # Without it nothing is asked again, and nothing called unknown.
    assert (settings.doubt != DoubtSettings()) is tells
    assert ("smollm2-135m" in settings.gauge.calibration_by_model) is is_calibrated
