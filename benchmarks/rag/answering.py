"""Has the built-in model answer questions through the whole workflow, and checks what it cites."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.rag.index import OWNER
from mm_orch.core.generation import Message
from mm_orch.core.observers import ObserverFanOut
from mm_orch.retrieval.citations import SourceText
from mm_orch.retrieval.terms import read_question, terms_of
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.workflows.account import Watch
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER, SOURCES
from mm_orch.workflows.rag_prompt import REFUSAL
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.routes import RoutingSettings, RoutingSources, WorkflowRoutes
from mm_orch.workflows.running import Workflows, WorkflowSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.rag.corpus import Question
    from benchmarks.rag.index import Index
    from mm_orch.app import Runtime
    from mm_orch.storage.sqlite_database import SqliteDatabase
    from mm_orch.workflows.contract import Source

_CITED = re.compile(r"(?P<said>[^\n]*?)\s\[(?P<number>\d+)\](?=\s|$)")
_QUOTED = re.compile(r'(?:^|: )"(?P<quote>.*)"$', re.DOTALL)
# Of the words of the short answer, for it to count as said.
_MIN_SAID = 0.7
_MIN_SHARE = 0.8
_TIMEOUT_S = 600.0


def make_workflows(runtime: Runtime, database: SqliteDatabase, search: Search) -> Workflows:
    """Return the workflows as the product has them, over a database and a search of one's own."""
    registry = WorkflowRegistry()
    return Workflows(
        registry,
        routes=WorkflowRoutes(registry, RoutingSettings(), RoutingSources()),
        generator=runtime.orchestrator,
        meters=runtime.orchestrator,
        sessions=SqlSessions(database),
        documents=SqlDocuments(database, Fts5Index()),
        search=search,
        embedder=runtime.embedder,
        settings=WorkflowSettings(timeout_s=_TIMEOUT_S),
        watch=Watch(ObserverFanOut(), time.monotonic),
    )


async def answer_all(index: Index, questions: Sequence[Question]) -> dict[str, object]:
    """Return how many are answered, how many of these rightly, and what their citations bear."""
    workflows = make_workflows(index.runtime, index.database, Search(SearchSettings()))
    counts: Counter[str] = Counter()
    for question in questions:
        call = WorkflowCall(
            request_id="benchmark",
            messages=(Message(role="user", content=question.question),),
            owner=OWNER,
        )
        async with workflows.open("rag_qa", call) as run:
            values = (await run.complete()).values
        sources = values.find(SOURCES)
        _count(counts, question, values[ANSWER].text, sources or ())
    return dict(sorted(counts.items()))


def _count(counts: Counter[str], question: Question, text: str, sources: Sequence[Source]) -> None:
    counts["answerable" if question.answer else "unanswerable"] += 1
    if text == REFUSAL:
        counts["declined_wrongly" if question.answer else "declined_rightly"] += 1
        return
    cited = list(citations_of(text))
    counts["citations"] += len(cited)
    counts["citations_borne_out"] += sum(
        0 < number <= len(sources) and _bears_out(sources[number - 1], said)
        for said, number in cited
    )
    counts["answers_without_citation"] += not cited
    counts["quoted"] += _QUOTED.search(cited[0][0]) is not None if cited else 0
    if question.answer:
        counts["with_the_short_answer"] += has_short_answer(question, text)


def has_short_answer(question: Question, text: str) -> bool:
    """Say whether a text has nearly all words of the short answer; False where there is none."""
    if question.answer is None:
        return False
    wanted = read_question(question.answer).content
    return len(wanted & set(terms_of(text))) >= _MIN_SAID * len(wanted)


def citations_of(text: str) -> Iterator[tuple[str, int]]:
    """Yield what is said before each mark, since the last one, with the number of its source."""
    for match in _CITED.finditer(text):
        yield match["said"].strip(), int(match["number"])


def _bears_out(source: Source, said: str) -> bool:
    quoted = _QUOTED.search(said)
    if quoted is not None:
        return quoted["quote"] in source.content
    place = SourceText(source.metadata["heading"], source.content)
    return place.find_share(said) >= _MIN_SHARE
