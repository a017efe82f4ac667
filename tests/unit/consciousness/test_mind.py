"""What the mind learns of events, and what follows from it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mm_orch.core.effects import NO_ADVICE
from mm_orch.core.errors import RequestNotFoundError, WorkflowLockedError
from mm_orch.core.events import RequestStatus
from mm_orch.core.mind_events import FeedbackTaken, MindMoved
from mm_orch.core.mind_report import GoalsReport
from mm_orch.orchestration.account import UNKNOWN
from tests.unit.consciousness.scene import SETTINGS, Scene, gating, generated, outcome, ran


def test_a_run_and_its_generations_are_remembered_each_for_its_own() -> None:
    mind = Scene().mind

    mind.observe(generated(workflow="chat_generate"))
    mind.observe(ran(confidence=0.8))

    assert list(mind.state.memory) == [
        outcome(kind="generation", at_s=1_000_000.0),
        outcome(kind="run", at_s=1_000_000.0, latency_s=3.0, confidence=0.8),
    ]


def test_of_a_run_that_was_routed_the_beliefs_are_remembered_in_hundredths() -> None:
    mind = Scene().mind

    mind.observe(ran(belief_by_workflow={"search_qa": 0.61234, "chat_generate": 0.38766}))

    [remembered] = mind.state.memory
    assert remembered.belief_by_workflow == {"search_qa": 0.61, "chat_generate": 0.39}


def test_a_part_of_a_run_moves_the_mood_no_second_time() -> None:
    once, twice = Scene().mind, Scene().mind
    once.observe(ran())

    twice.observe(generated(workflow="chat_generate"))
    twice.observe(ran())

    assert once.state.mood == twice.state.mood
    assert once.state.mood.valence > 0


@pytest.mark.parametrize("status", [RequestStatus.REJECTED, RequestStatus.CANCELLED])
def test_a_refusal_or_a_caller_that_left_says_nothing(status: RequestStatus) -> None:
    mind = Scene().mind

    mind.observe(generated(status=status))
    mind.observe(ran(status=status.value))
    mind.observe(generated(operation="embeddings"))

    assert list(mind.state.memory) == []
    assert mind.state.mood.valence == 0


@pytest.mark.parametrize("status", [RequestStatus.ERROR, RequestStatus.TIMEOUT])
def test_a_failure_counts_as_one(status: RequestStatus) -> None:
    mind = Scene().mind

    mind.observe(generated(status=status, model=UNKNOWN))

    [remembered] = mind.state.memory
    assert (remembered.is_success, remembered.model) == (False, "")
    assert mind.state.mood.valence < 0


def test_a_run_that_asked_no_model_proves_nothing() -> None:
    mind = Scene().mind

    mind.observe(ran(model="", workflow="self_description"))

    assert len(list(mind.state.memory)) == 1
    assert mind.state.mood.valence == 0
    assert mind.state.development.num_runs == 0


def test_the_mood_is_what_is_left_of_it() -> None:
    scene = Scene()
    scene.mind.observe(generated(status=RequestStatus.ERROR))
    before = scene.mind.state.mood

    scene.now_s += SETTINGS.mood_half_life_s

    assert scene.mind.state.mood.valence == pytest.approx(before.valence / 2)


def test_without_emotions_a_mood_changes_nothing() -> None:
    calm = Scene().mind
    moved = Scene(replace(SETTINGS, has_emotions=True)).mind
    for mind in (calm, moved):
        for _ in range(9):
            mind.observe(generated(status=RequestStatus.ERROR))

    assert calm.advise(has_instructions=False, has_temperature=False) == NO_ADVICE
    advice = moved.advise(has_instructions=False, has_temperature=False)
    assert advice.temperature is not None
    assert 0.9 <= advice.temperature < 1
    assert advice.instruction is not None


def test_a_gated_workflow_is_refused_with_what_leads_there_and_how_to_allow_it() -> None:
    mind = Scene(gating()).mind

    with pytest.raises(WorkflowLockedError) as caught:
        mind.check("rag_qa", param="workflow_type")

    error = caught.value
    assert (error.code, error.param) == ("workflow_locked", "workflow_type")
    for part in ("rag_qa", "stage 1", "at stage 0", "5 successful runs", "0 of 0"):
        assert part in error.message
    assert error.remedy is not None
    assert "consciousness.development.enabled" in error.remedy


def test_measured_success_unlocks_the_next_stage_and_it_stays_unlocked() -> None:
    mind = Scene(gating()).mind
    assert not mind.is_unlocked("rag_qa")

    for _ in range(5):
        mind.observe(ran())
    unlocked = mind.is_unlocked("rag_qa")
    for _ in range(50):
        mind.observe(ran(status="error"))

    assert unlocked
    mind.check("rag_qa", param="model")
    assert not mind.is_unlocked("my_plugin")


def test_a_workflow_of_no_stage_says_so() -> None:
    rules = replace(SETTINGS.rules, workflows_by_stage=(("chat_generate",),))

    with pytest.raises(WorkflowLockedError, match="no stage of"):
        Scene(gating(rules=rules)).mind.check("rag_qa", param="model")


def test_without_gating_every_workflow_is_allowed() -> None:
    mind = Scene().mind

    mind.check("anything", param="model")
    assert mind.is_unlocked("anything")


async def test_feedback_moves_the_mood_once_for_a_request() -> None:
    mind = Scene().mind
    mind.observe(ran())
    before = mind.state.mood.valence

    await mind.take_feedback("alice", "r1", -1.0)
    first = mind.state.mood.valence
    await mind.take_feedback("alice", "r1", 1.0)

    assert first < before
    assert mind.state.mood.valence == first
    assert [one.feedback for one in mind.state.memory] == [1.0]


@pytest.mark.parametrize(("caller", "request_id"), [("bob", "r1"), ("alice", "r2")])
async def test_feedback_on_what_is_no_request_of_the_callers_is_refused(
    caller: str, request_id: str
) -> None:
    mind = Scene().mind
    mind.observe(ran())

    with pytest.raises(RequestNotFoundError) as caught:
        await mind.take_feedback(caller, request_id, 1.0)

    assert caught.value.param == "request_id"
    assert [one.feedback for one in mind.state.memory] == [None]


async def test_feedback_that_comes_with_the_last_word_waits_for_the_end() -> None:
    mind = Scene().mind
    given = asyncio.create_task(mind.take_feedback("alice", "r1", 1.0))
    await asyncio.sleep(0)
    mind.observe(ran("another"))
    await asyncio.sleep(0)

    mind.observe(ran())
    await given

    assert [one.feedback for one in mind.state.memory.find("alice", "r1")] == [1.0]


async def test_what_moves_the_mind_is_stated() -> None:
    scene = Scene()
    scene.mind.observe(ran())
    await scene.mind.take_feedback("alice", "r1", -1.0)

    first, feedback, second = scene.told.events
    assert feedback == FeedbackTaken(score=-1.0)
    assert isinstance(first, MindMoved)
    assert isinstance(second, MindMoved)
    assert second.valence < 0 < first.valence
    assert second.stage == 0


async def test_a_question_about_the_system_is_answered_from_facts() -> None:
    mind = Scene(gating()).mind

    assert mind.find_workflow("What can you do?") == "self_description"
    assert mind.find_workflow("What is a cat?") is None
    told = await mind.describe("Which workflows do you have?")
    assert told.startswith("Workflows:")
    assert "rag_qa: not allowed yet, it is of stage 1" in told
    assert (await mind.describe("Tell me more")).startswith("I am MuAI 1.2.3")


async def test_the_report_has_everything() -> None:
    scene = Scene(replace(gating(), has_emotions=True))
    for _ in range(4):
        scene.mind.observe(ran(confidence=0.5))
    scene.mind.observe(generated(status=RequestStatus.ERROR))

    report = await scene.mind.report()

    assert report.self_model.default_model == "small"
    assert report.goals == GoalsReport(quality=0.6, latency=0.2, cost=0.2)
    assert (report.mood.valence < 0.2, report.mood.has_effects) == (True, True)
    development = report.development
    assert (development.stage, development.num_runs, development.num_successes) == (0, 4, 4)
    assert [one.workflows for one in development.stages] == [
        ("chat_generate", "self_description"),
        ("rag_qa",),
        ("*",),
    ]
    assert (report.memory.is_stored, report.memory.problem) == (False, "")
    assert report.memory.workflows["chat_generate"].confidence == 0.5
    assert report.memory.models["small"].success_ratio == 0.0
