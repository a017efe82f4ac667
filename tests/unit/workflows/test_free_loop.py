"""What is compared with pages and passages is compared in threads, however long it is."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mm_orch
from mm_orch.core.generation import Message
from mm_orch.orchestration.generation import Embeddings
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.call import PassageOptions, WorkflowCall
from tests.unit.api.scripted_generator import ScriptedGenerator, say
from tests.unit.storage.document_scene import MODEL, open_documents
from tests.unit.workflows import rag_scene
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.search_scene import (
    ANSWERING,
    CLIMBED,
    HEIGHT,
    JOIN,
    PARTS,
    Model,
    Provider,
    make_call,
    make_search,
    no_sessions,
    play,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from mm_orch.core.embedding import EmbeddingRequest

ROOT = Path(mm_orch.__file__).parent
COMPARING = ("retrieval", "search/ranking.py", "search/passages.py")
# Tells what is there.
FIELDS = {"Candidate.chunk"}
PARTS_TOLD = '{"questions": ["How high is Mount Vell?", "Who climbed Mount Vell?"]}'


class FlatEmbedder:
    """Finds all texts alike, without looking at them."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        vectors = np.ones((len(request.inputs), 64), dtype=np.float32) / 8
        return Embeddings(vectors=vectors, model=MODEL, engine="flat", num_tokens=1)


@contextmanager
def comparisons_here() -> Iterator[set[str]]:
    """Note each function of the comparing kind that this thread calls."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(
            tuple(str(ROOT / place) for place in COMPARING)
        ):
            called.update({code.co_qualname} - FIELDS)

    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)


async def test_pages_are_compared_in_threads() -> None:
    model = Model(said={ANSWERING: f"{HEIGHT} It is the highest of all. {CLIMBED}"})
    workflows = make_workflows(model, no_sessions(), search=make_search(Provider()))

    with comparisons_here() as called:
        outcome, _ = await play(workflows, "search_qa", make_call())

    assert text_of(outcome).startswith(f"{HEIGHT} [1] {CLIMBED} [2]")
    assert called == set()


async def test_answers_to_parts_are_compared_in_threads() -> None:
    joined = "Mara Lind climbed Mount Vell, which is 2,100 metres high."
    model = Model(said={PARTS: PARTS_TOLD, ANSWERING: f"{HEIGHT} {CLIMBED}", JOIN: joined})
    workflows = make_workflows(model, no_sessions(), search=make_search(Provider()))
    question = "How high is Mount Vell and who climbed it?"

    with comparisons_here() as called:
        outcome, _ = await play(workflows, "self_ask_search_qa", make_call(question=question))

    assert text_of(outcome).startswith(joined)
    assert called == set()


async def test_passages_are_compared_in_threads(tmp_path: Path) -> None:
    async with open_documents(tmp_path) as store:
        await rag_scene.store_light(store)
        workflows = make_workflows(
            ScriptedGenerator(say(rag_scene.LIT)),
            SqlSessions(SqliteDatabase(tmp_path / "none")),
            documents=store,
            embedder=FlatEmbedder(),
        )
        call = WorkflowCall(
            request_id="r",
            messages=(Message(role="user", content=rag_scene.QUESTION),),
            owner=rag_scene.OWNER,
            passages=PassageOptions(threshold=0.0),
        )

        with comparisons_here() as called:
            outcome, _ = await play(workflows, "rag_qa", call)

    assert text_of(outcome) == f"{rag_scene.LIT} [1]"
    assert called == set()
