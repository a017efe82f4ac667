"""Each built-in workflow with all that it needs, any step of which may be put out of order."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import GenerationOptions, Message
from mm_orch.core.workflow_events import WorkflowFinished, WorkflowStepFinished
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.account import Watch
from mm_orch.workflows.call import PassageOptions, WorkflowCall
from mm_orch.workflows.cascade_settings import CascadeSettings
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.scripted_generator import EventList, ScriptedGenerator, say
from tests.unit.storage.scene import FILE, OWNER, fill, texts_of
from tests.unit.workflows.lesson_model import LessonModel
from tests.unit.workflows.rag_scene import LIT, BagEmbedder, store_light
from tests.unit.workflows.rag_scene import QUESTION as ABOUT_LIGHT
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.search_scene import ANSWERING, HEIGHT, Model, Provider, make_search
from tests.unit.workflows.search_scene import QUESTION as ABOUT_VELL
from tests.unit.workflows.test_chat_generate import going_on
from tests.unit.workflows.test_self_ask_search_qa import HIGHER, provider, two_mountains

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mm_orch.core.effects import Advice
    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.graph_step import Step, StepFunction
    from mm_orch.workflows.running import Workflows


@dataclass(frozen=True)
class Needs:
    """What a workflow is tried with.

    Attributes:
        question: that it answers.
        make_generator: makes the models that it asks.
        provider: of the pages that it finds.
    """

    question: str
    make_generator: Callable[[], ScriptedGenerator] = ScriptedGenerator
    provider: Provider = field(default_factory=Provider)


NEEDS = {
    "cascade": Needs("Who is there?"),
    "chat_generate": Needs("Who is there?"),
    "lesson_pack": Needs("Explain photosynthesis with three exercises.", LessonModel),
    "rag_qa": Needs(ABOUT_LIGHT, lambda: ScriptedGenerator(say(LIT))),
    "search_qa": Needs(ABOUT_VELL, lambda: Model(said={ANSWERING: HEIGHT})),
    "self_ask_search_qa": Needs(HIGHER, two_mountains, provider()),
    "self_description": Needs("What can you do?"),
}
BROKEN = EngineFailedError("It broke.")


class Knowing:
    """An advisor of a system that allows everything and wants nothing."""

    def check(self, workflow: str, *, param: str) -> None: ...

    def is_unlocked(self, _: str) -> bool:
        return True

    def advise(self, *, has_instructions: bool, has_temperature: bool) -> Advice:
        raise AssertionError((has_instructions, has_temperature))  # every call here has a seed

    def find_workflow(self, _: str) -> str | None:
        return None

    async def describe(self, question: str) -> str:
        return f"Asked {question!r}, it says that it answers."


def find_all() -> list[Workflow]:
    """Return every workflow that is built in."""
    return asyncio.run(WorkflowRegistry(knows_itself=True).find_usable())


def fail_before(_: Step) -> StepFunction:
    """Break a step that has done nothing yet."""

    async def run(_: StepContext) -> None:
        raise BROKEN

    return run


def fail_after(step: Step) -> StepFunction:
    """Break a step, by a fault in its code, that has done all of its work but to end."""

    async def run(context: StepContext) -> None:
        await step.run(context)
        raise ZeroDivisionError

    return run


@dataclass
class Scene:
    """One workflow among what it needs, with a session that has one turn."""

    workflow: Workflow
    workflows: Workflows
    generator: ScriptedGenerator
    sessions: SqlSessions
    told: EventList

    @property
    def call(self) -> WorkflowCall:
        question = NEEDS[self.workflow.name].question
        return WorkflowCall(
            request_id="r",
            messages=(Message(role="user", content=question),),
            owner=OWNER,
            options=GenerationOptions(seed=1),
            session=going_on(),
            # Anything is evidence.
            passages=PassageOptions(threshold=0.0),
        )

    @property
    def end(self) -> WorkflowFinished:
        """The only one that was told."""
        [end] = [one for one in self.told.events if isinstance(one, WorkflowFinished)]
        return end

    @property
    def outcome_by_step(self) -> dict[str, str]:
        told = [one for one in self.told.events if isinstance(one, WorkflowStepFinished)]
        outcomes = {one.step: one.outcome for one in told}
        assert len(outcomes) == len(told)
        return outcomes

    async def turns(self) -> list[tuple[str, str]]:
        """What was said in the session after its first turn."""
        return texts_of(await self.sessions.read(OWNER, "s"))[1:]

    def check_over(self) -> None:
        """See that nothing of the run is left: no task, no generation, no hold on the session."""
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self.generator.num_open == 0
        assert not self.workflows._locks._by_session


@asynccontextmanager
async def open_scene(
    workflow: Workflow, step: str, spoil: Callable[[Step], StepFunction], directory: Path
) -> AsyncIterator[Scene]:
    """Prepare a workflow one of whose steps does something else."""
    needs = NEEDS[workflow.name]
    steps = tuple(
        replace(one, run=spoil(one)) if one.name == step else one for one in workflow.graph.steps
    )
    registry = WorkflowRegistry(knows_itself=True)
    registry._found[workflow.name] = replace(workflow, graph=replace(workflow.graph, steps=steps))
    generator, told = needs.make_generator(), EventList()
    async with AsyncExitStack() as stack:
        database = SqliteDatabase(directory / FILE)
        stack.push_async_callback(database.close)
        sessions, documents = SqlSessions(database), SqlDocuments(database, Fts5Index())
        await fill(sessions, "s", 1)
        await store_light(documents)
        workflows = make_workflows(
            generator,
            sessions,
            WorkflowSettings(cascade=CascadeSettings(is_enabled=True)),
            documents=documents,
            embedder=BagEmbedder(),
            registry=registry,
            search=make_search(needs.provider),
            watch=Watch(told, time.monotonic),
            advisor=Knowing(),
        )
        yield Scene(workflow, workflows, generator, sessions, told)
