"""Workflows with scripted models, a meter that counts words, and whatever store a test brings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.generation import FinishReason
from mm_orch.core.observers import ObserverFanOut
from mm_orch.orchestration.measuring import GuessingMeter
from mm_orch.routing.route import WORKFLOWS
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.account import Watch
from mm_orch.workflows.contract import ANSWER, INPUTS, Workflow
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.routes import RoutingSettings, RoutingSources, WorkflowRoutes
from mm_orch.workflows.running import Workflows, WorkflowSettings
from tests.unit.api.scripted_embedder import ScriptedEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.generation import Embedder, RunGenerator
    from mm_orch.storage.documents import DocumentStore
    from mm_orch.storage.sessions import SessionStore
    from mm_orch.workflows.advice import Advisor
    from mm_orch.workflows.contract import Circumstances
    from mm_orch.workflows.graph_state import StepContext


@dataclass(frozen=True)
class WordMeter:
    """A token a word, and one around each message."""

    context_length: int | None = 1000

    def count(self, messages: Sequence[Message]) -> int:
        return sum(1 + len(message.content.split()) for message in messages)


class WordMeters:
    """One for every model but ``far``, which is a server elsewhere."""

    async def find_meter(self, model: str | None) -> WordMeter | GuessingMeter:
        return GuessingMeter(None) if model == "far" else WordMeter()


def no_documents() -> DocumentStore:
    """Return a store whose file cannot be opened."""
    return SqlDocuments(SqliteDatabase(Path("/dev/null/sessions.sqlite3")), Fts5Index())


def make_workflows(
    generator: RunGenerator,
    sessions: SessionStore,
    settings: WorkflowSettings | None = None,
    *,
    documents: DocumentStore | None = None,
    embedder: Embedder | None = None,
    registry: WorkflowRegistry | None = None,
    search: Search | None = None,
    watch: Watch | None = None,
    routing: RoutingSettings | None = None,
    sources: RoutingSources | None = None,
    advisor: Advisor | None = None,
) -> Workflows:
    registry = registry or WorkflowRegistry(knows_itself=advisor is not None)
    return Workflows(
        registry,
        routes=WorkflowRoutes(registry, routing or RoutingSettings(), sources or RoutingSources()),
        generator=generator,
        meters=WordMeters(),
        sessions=sessions,
        search=search or Search(SearchSettings()),
        documents=documents or no_documents(),
        embedder=embedder or ScriptedEmbedder(),
        settings=settings or WorkflowSettings(),
        watch=watch or Watch(ObserverFanOut(), time.monotonic),
        advisor=advisor,
    )


async def _answer(context: StepContext) -> None:
    context.put(
        ANSWER, GeneratedText(text="Done.", model="", engine="", finish_reason=FinishReason.STOP)
    )


def stand_in(
    name: str, find_obstacle: Callable[[Circumstances], str | None] = lambda _: None
) -> Workflow:
    step = Step(name="answer", run=_answer, outputs=(ANSWER,))
    return Workflow(
        summary=f"Stands in for {name}.",
        graph=Graph(name=name, inputs=INPUTS, steps=(step,), answer=ANSWER),
        find_obstacle=find_obstacle,
    )


def make_registry(*workflows: Workflow) -> WorkflowRegistry:
    """All that can be routed to, but for chat_generate without a model; these over them."""
    registry = WorkflowRegistry()
    stand_ins = [stand_in(name) for name in WORKFLOWS if name != "chat_generate"]
    for one in (*stand_ins, *workflows):
        registry._targets[one.name] = "here:STAND_IN"
        registry._found[one.name] = one
    return registry
