"""Workflows with scripted models, a meter that counts words, and whatever store a test brings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.observers import ObserverFanOut
from mm_orch.orchestration.measuring import GuessingMeter
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from mm_orch.storage.database import Database
from mm_orch.storage.sqlite_documents import SqliteDocuments
from mm_orch.workflows.account import Watch
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.running import Workflows, WorkflowSettings
from tests.unit.api.scripted_embedder import ScriptedEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.generation import Embedder, RunGenerator
    from mm_orch.storage.documents import DocumentStore
    from mm_orch.storage.sessions import SessionStore


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
    return SqliteDocuments(Database(Path("/dev/null/sessions.sqlite3")))


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
) -> Workflows:
    return Workflows(
        registry or WorkflowRegistry(),
        generator=generator,
        meters=WordMeters(),
        sessions=sessions,
        search=search or Search(SearchSettings()),
        documents=documents or no_documents(),
        embedder=embedder or ScriptedEmbedder(),
        settings=settings or WorkflowSettings(),
        watch=watch or Watch(ObserverFanOut(), time.monotonic),
    )
