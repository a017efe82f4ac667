"""Which workflow a call gets that names none: what can answer it, what is told, what is asked."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.consciousness.goals import Goals
from mm_orch.core.errors import NotServedError, StorageError, WorkflowNotFoundError
from mm_orch.core.generation import Message
from mm_orch.core.routing import AUTO
from mm_orch.core.workflow_events import WorkflowFinished, WorkflowRouted
from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.route import WORKFLOWS, Alternative, Route
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.account import Watch
from mm_orch.workflows.call import SessionCall, WorkflowCall
from mm_orch.workflows.routes import RoutingSettings, RoutingSources, settle
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.scripted_generator import EventList, ScriptedGenerator
from tests.unit.workflows.scene import make_registry, make_workflows, stand_in

if TYPE_CHECKING:
    from mm_orch.core.routing import WorkflowChoice
    from mm_orch.routing.workflow_router import WorkflowRouter
    from mm_orch.workflows.contract import Circumstances
    from mm_orch.workflows.registry import WorkflowRegistry
    from mm_orch.workflows.run import WorkflowRun
    from mm_orch.workflows.running import Workflows

QUIZ = "Quiz me on European capitals, with exercises and answers."
ASKS_FILES = "What do my uploaded documents say about the budget?"
PLAIN = "What is machine learning?"


def make_call(question: str, **fields: object) -> WorkflowCall:
    messages = (Message(role="user", content=question),)
    return WorkflowCall(request_id="r", messages=messages, **fields)  # type: ignore[arg-type]  # by name


def make(
    *,
    registry: WorkflowRegistry | None = None,
    settings: WorkflowSettings | None = None,
    routing: RoutingSettings | None = None,
    sources: RoutingSources | None = None,
    observer: EventList | None = None,
) -> Workflows:
    return make_workflows(
        ScriptedGenerator(),
        SqlSessions(SqliteDatabase(Path("/dev/null/none"))),
        settings,
        registry=registry or make_registry(),
        watch=Watch(observer or EventList(), time.monotonic),
        routing=routing,
        sources=sources,
    )


async def route(
    workflows: Workflows, question: str, name: str | None = AUTO, **fields: object
) -> WorkflowRun:
    async with workflows.open(name, make_call(question, **fields)) as run:
        await run.complete()
        return run


def choice_of(run: WorkflowRun) -> WorkflowChoice:
    assert run.routing.workflow is not None
    return run.routing.workflow


def with_documents(*owners: str) -> RoutingSources:
    async def has_documents(owner: str) -> bool:
        return owner in owners

    return RoutingSources(has_documents=has_documents)


@pytest.mark.parametrize("name", [AUTO, None])
async def test_a_call_that_names_none_gets_the_likeliest(name: str | None) -> None:
    run = await route(make(), QUIZ, name)

    choice = choice_of(run)
    assert run.workflow.name == choice.workflow == "lesson_pack"
    assert (choice.by, choice.alternatives[0].workflow) == ("learned", "lesson_pack")
    assert choice.confidence == choice.alternatives[0].score > 0.5
    assert "rag_qa" not in [one.workflow for one in choice.alternatives]


async def test_a_plain_question_is_answered_by_the_model_itself_and_says_why() -> None:
    run = await route(make(), PLAIN)

    assert choice_of(run).workflow == "chat_generate"
    assert choice_of(run).reason


async def test_a_named_workflow_is_not_second_guessed() -> None:
    run = await route(make(), PLAIN, "lesson_pack")

    assert run.workflow.name == "lesson_pack"
    assert run.routing.is_empty


@pytest.mark.parametrize(
    ("owner", "chosen", "is_out"), [("ada", "rag_qa", False), ("bob", None, True)]
)
async def test_documents_are_asked_where_the_caller_has_some(
    owner: str, chosen: str | None, *, is_out: bool
) -> None:
    run = await route(make(sources=with_documents("ada")), ASKS_FILES, owner=owner)

    choice = choice_of(run)
    assert (choice.workflow == "rag_qa") == (chosen == "rag_qa")
    told = {one.name: one.reason for one in choice.ruled_out}
    assert told == ({"rag_qa": "the caller has no documents"} if is_out else {})


async def test_a_workflow_that_says_it_cannot_answer_now_is_not_chosen() -> None:
    def find_obstacle(around: Circumstances) -> str | None:
        assert around.call.question == QUIZ
        return "no model can keep to a schema"

    registry = make_registry(stand_in("lesson_pack", find_obstacle))

    choice = choice_of(await route(make(registry=registry), QUIZ))

    assert choice.workflow != "lesson_pack"
    assert ("lesson_pack", "no model can keep to a schema") in [
        (one.name, one.reason) for one in choice.ruled_out
    ]


async def test_what_is_not_installed_or_not_allowed_is_not_chosen() -> None:
    routing = RoutingSettings(allowed=("chat_generate", "search_qa", "self_ask_search_qa"))
    registry = make_registry()
    del registry._targets["search_qa"]

    choice = choice_of(await route(make(registry=registry, routing=routing), QUIZ))

    assert {one.workflow for one in choice.alternatives} == {"chat_generate", "self_ask_search_qa"}
    told = {one.name: one.reason for one in choice.ruled_out}
    assert told["search_qa"] == "it is not installed, or cannot be imported"
    assert told["lesson_pack"] == "routing.workflows.allowed does not name it"


async def test_a_call_of_a_session_goes_to_what_keeps_its_turns() -> None:
    session = SessionCall(session_id="session-1", is_new=False)
    observer = EventList()

    # The session's file cannot be opened.
    with pytest.raises(StorageError):
        await route(make(observer=observer), QUIZ, session=session)
    [told] = [one for one in observer.events if isinstance(one, WorkflowRouted)]
    choice = told.routing.workflow
    assert choice is not None
    assert (choice.workflow, choice.by, choice.confidence) == ("chat_generate", "default", 1.0)
    assert choice.reason == "chat_generate is the only workflow that can answer it now."
    assert {one.reason for one in choice.ruled_out} == {
        "it keeps no turns, and the call belongs to a session"
    }


async def test_where_nothing_can_answer_the_default_is_asked_and_says_what_is_wrong() -> None:
    registry = make_registry()
    routing = RoutingSettings(allowed=("rag_qa",))

    choice = choice_of(await route(make(registry=registry, routing=routing), ASKS_FILES))

    assert (choice.workflow, choice.by, choice.alternatives) == ("chat_generate", "default", ())
    assert len(choice.ruled_out) == len(WORKFLOWS)


async def test_without_routing_by_default_only_auto_is_chosen_for() -> None:
    workflows = make(routing=RoutingSettings(is_by_default=False))

    assert (await route(workflows, QUIZ, None)).workflow.name == "chat_generate"
    assert (await route(workflows, QUIZ, None)).routing.is_empty
    assert (await route(workflows, QUIZ, AUTO)).workflow.name == "lesson_pack"


async def test_documents_that_cannot_be_looked_for_are_as_good_as_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: str) -> bool:
        raise StorageError("documents.sqlite3 cannot be read.")

    run = await route(make(sources=RoutingSources(has_documents=fail)), ASKS_FILES)

    assert choice_of(run).workflow != "rag_qa"
    assert "documents.sqlite3 cannot be read" in caplog.text


async def test_without_weights_the_default_answers(tmp_path: Path) -> None:
    def load() -> WorkflowRouter:
        return load_workflow_router(tmp_path / "none.npz", tmp_path / "none.json")

    choice = choice_of(await route(make(sources=RoutingSources(load_router=load)), QUIZ))

    assert (choice.workflow, choice.by) == ("chat_generate", "default")


async def test_the_router_is_loaded_once_for_all_that_wait_for_it() -> None:
    loads: list[int] = []

    def load() -> WorkflowRouter:
        loads.append(1)
        return load_workflow_router()

    workflows = make(sources=RoutingSources(load_router=load))
    await asyncio.gather(*(route(workflows, PLAIN) for _ in range(5)))

    assert loads == [1]


async def test_the_choice_is_stated_before_the_run_and_the_run_has_its_name() -> None:
    observer = EventList()

    await route(make(observer=observer), QUIZ)

    first, *_, last = observer.events
    assert isinstance(first, WorkflowRouted)
    assert isinstance(last, WorkflowFinished)
    assert (first.request_id, first.workflow, last.workflow) == ("r", "lesson_pack", "lesson_pack")
    assert 0 < first.duration_s < 60
    assert last.belief_by_workflow["lesson_pack"] > 0.5
    assert sum(last.belief_by_workflow.values()) == pytest.approx(1)


async def test_of_a_run_that_was_named_no_belief_is_stated() -> None:
    observer = EventList()

    await route(make(observer=observer), PLAIN, "lesson_pack")

    last = observer.events[-1]
    assert isinstance(last, WorkflowFinished)
    assert last.belief_by_workflow == {}


async def test_goals_of_the_operator_and_what_was_learned_weigh_in_the_choice() -> None:
    query = "Tell me about the Battle of Hastings and its dates"
    thrifty = RoutingSettings(goals=Goals(quality=0, latency=0, cost=1))
    taught = RoutingSources(bias_by_workflow=lambda: {"chat_generate": 1.0})

    plain = choice_of(await route(make(), query))
    by_goals = choice_of(await route(make(routing=thrifty), query))
    by_feedback = choice_of(await route(make(sources=taught), query))

    assert plain.workflow == "search_qa"
    assert by_goals.workflow == by_feedback.workflow == "chat_generate"
    assert "the goals latency and cost weigh more" in by_goals.reason
    assert "How earlier answers did speaks for chat_generate" in by_feedback.reason
    assert plain.belief_by_workflow == by_feedback.belief_by_workflow


async def test_a_run_whose_model_is_left_open_uses_one_model_for_all_its_steps() -> None:
    observer = EventList()
    workflows = make(observer=observer)

    run = await route(workflows, PLAIN, "chat_generate", model=AUTO)

    assert run.routing.workflow is None
    assert run.routing.model is not None
    assert run.routing.model.model == "small"
    generator = workflows._generator
    assert isinstance(generator, ScriptedGenerator)
    assert [request.model for request in generator.requests] == ["small"]
    [told] = [one for one in observer.events if isinstance(one, WorkflowRouted)]
    assert told.routing == run.routing


async def test_switched_off_or_unknown_workflows_are_refused_before_anything_is_chosen() -> None:
    with pytest.raises(NotServedError):
        await route(make(settings=WorkflowSettings(is_enabled=False)), PLAIN)
    with pytest.raises(WorkflowNotFoundError):
        await route(make(), PLAIN, "none")


@pytest.mark.parametrize(
    ("min_confidence", "chosen", "by"),
    [
        (0.0, "search_qa", "learned"),
        (0.6, "search_qa", "learned"),
        (0.61, "chat_generate", "default"),
    ],
)
def test_what_is_too_unlikely_gives_way_to_the_default(
    min_confidence: float, chosen: str, by: str
) -> None:
    alternatives = (
        Alternative("search_qa", 0.6, 0.6),
        Alternative("lesson_pack", 0.3, 0.3),
        Alternative("chat_generate", 0.1, 0.1),
    )
    unsure = Route(
        workflow="search_qa", confidence=0.6, alternatives=alternatives, reason="So.", by="learned"
    )

    choice = settle(unsure, min_confidence)

    assert (choice.workflow, choice.by, choice.alternatives[0].workflow) == (chosen, by, chosen)
    assert choice.confidence == choice.alternatives[0].score
    assert len(choice.alternatives) == 3
    if by == "default":
        assert "search_qa would be chosen, with 0.60" in choice.reason
