"""How often answers from pages are right, by how sure they are: where to say that nobody knows.

usage: python -m benchmarks.rag.search_floor [--questions N]

The documents are recorded pages; search_qa answers about N of the development questions, half of
which have no answer in them. Every answer is told, however unsure. An answer is right that has the
words of the short answer; to a question without one none is.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rag.answering import has_short_answer, make_workflows
from benchmarks.rag.corpus import load_documents, load_questions
from benchmarks.results_file import report, write_table
from benchmarks.routing.scoring import wilson
from benchmarks.statistics import show_ratio
from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.generation import Message
from mm_orch.search.corpus_file import make_line
from mm_orch.search.page import RawPage
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER, CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rag.corpus import Question
    from mm_orch.workflows.running import Workflows

_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.01)
_MOMENT = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class _Answered:
    confidence: float
    is_answerable: bool
    is_right: bool


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=80)
    num_questions = parser.parse_args().questions
    answered = asyncio.run(_answer_all(_choose(num_questions)))
    rows = [
        _describe(low, high, [one for one in answered if low <= one.confidence < high])
        for low, high in pairwise(_EDGES)
    ]
    head = ["confidence", "answers", "of answerable questions", "right (95%)"]
    print(write_table("search_floor", head, rows))
    figures: dict[str, object] = {
        "num_questions": len(answered),
        "num_answerable": sum(one.is_answerable for one in answered),
        "num_right": sum(one.is_right for one in answered),
        "by_confidence": [dict(zip(head, row, strict=True)) for row in rows],
    }
    report("search_floor", figures, [], {})
    return 0


def _choose(number: int) -> list[Question]:
    """Return about so many questions, half of them without an answer, of all kinds."""
    questions = load_questions("development")
    chosen: list[Question] = []
    for is_answerable in (True, False):
        some = [one for one in questions if bool(one.answer) is is_answerable]
        chosen += some[:: max(1, len(some) // (number // 2))]
    return chosen


async def _answer_all(questions: Sequence[Question]) -> list[_Answered]:
    config = load_config(path=None, environ={}, overrides={}).config
    with tempfile.TemporaryDirectory() as name:
        corpus, database = (
            Path(name) / "corpus.jsonl",
            SqliteDatabase(Path(name) / "sessions.sqlite3"),
        )
        corpus.write_bytes(b"".join(_make_pages()))
        try:
            async with open_runtime(config) as runtime:
                search = Search(SearchSettings(corpus=corpus))
                workflows = make_workflows(runtime, database, search)
                return [await _answer(workflows, one) for one in questions]
        finally:
            await database.close()


def _make_pages() -> list[bytes]:
    pages = []
    for document in load_documents():
        title, _, text = document.text.partition("\n")
        pages.append(
            make_line(
                RawPage(
                    url=f"https://varrow.example/{document.name}",
                    content_type="text/plain",
                    text=text,
                    fetched_at=_MOMENT,
                    title=title.lstrip("# "),
                )
            )
        )
    return pages


async def _answer(workflows: Workflows, question: Question) -> _Answered:
    call = WorkflowCall(
        request_id="benchmark", messages=(Message(role="user", content=question.question),)
    )
    async with workflows.open("search_qa", call) as run:
        values = (await run.complete()).values
    text, _, _ = values[ANSWER].text.partition("\n\nSources:")
    return _Answered(
        confidence=values[CONFIDENCE],
        is_answerable=question.answer is not None,
        is_right=has_short_answer(question, text),
    )


def _describe(low: float, high: float, some: Sequence[_Answered]) -> list[object]:
    num_right = sum(one.is_right for one in some)
    return [
        f"{low:g} to {min(high, 1):g}",
        len(some),
        sum(one.is_answerable for one in some),
        show_ratio(wilson(num_right, len(some)).rounded) if some else "",
    ]


if __name__ == "__main__":
    sys.exit(main())
