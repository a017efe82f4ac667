"""Answers from the caller's documents, with citations, or says that they do not tell.

look ── embed ── search_vectors ─┐
    └── search_words ────────────┴─ gather ── read ── judge ── draft ── answer ── keep

The judge decides by what was measured whether any passage answers; where none does, no model is
asked. What a model drafts is checked against the passages, statement by statement; where nothing of
it stands there, the answer is quoted from them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mm_orch.core.errors import DeadlineError, DocumentNotFoundError, WorkflowError
from mm_orch.core.generation import FinishReason
from mm_orch.orchestration.generation import Embeddings
from mm_orch.retrieval.citations import SourceText, bear_out
from mm_orch.retrieval.evidence import choose_quotes, load_models, measure
from mm_orch.retrieval.fusion import NUM_READ, POOL_SIZE, Candidate, fuse
from mm_orch.retrieval.places import Place, find_places, with_cosines
from mm_orch.workflows.contract import (
    ANSWER,
    CALL,
    CONFIDENCE,
    KEPT,
    SERVICES,
    SOURCES,
    Source,
    Workflow,
)
from mm_orch.workflows.deadline import ANSWER_SHARE, PART_SHARE, REMEDY, share_of, within
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.rag_prompt import REFUSAL, make_prompt, quote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from mm_orch.retrieval.evidence import EvidenceModels
    from mm_orch.storage.documents import Found
    from mm_orch.workflows.graph_state import StepContext

_NUM_QUOTED = 3
# Of an answer for which the caller sets none; it is a sentence or two.
_MAX_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the searches have found, the best first; and the sentences of the first passages."""

    candidates: tuple[Candidate, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the answer goes by.

    Attributes:
        passages: in the order of their numbers; none where there is no evidence.
        quotes: the sentences that most likely hold the answer.
        confidence: that the passages answer.
    """

    passages: tuple[Candidate, ...]
    quotes: tuple[Place, ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class Draft:
    """What a model has made of the passages; None where none was asked."""

    text: GeneratedText | None


_OWNER = Slot("owner", str)
_VECTOR = Slot("vector", Embeddings)
_BY_WORDS: Slot[tuple[Found, ...]] = Slot("by_words", tuple)
_BY_VECTORS: Slot[tuple[Found, ...]] = Slot("by_vectors", tuple)
_GATHERED = Slot("gathered", Gathered)
_READ: Slot[tuple[Place, ...]] = Slot("read", tuple)
_JUDGED = Slot("judged", Judged)
_DRAFT = Slot("draft", Draft)


async def look(context: StepContext) -> None:
    """See that there are documents, before anything is loaded for them."""
    owner = context[CALL].owner
    if not await context[SERVICES].documents.has_documents(owner):
        raise DocumentNotFoundError(
            "You have no documents that this could be answered from.",
            remedy="Upload one first: POST /api/rag/upload.",
        )
    context.put(_OWNER, owner)


async def embed(context: StepContext) -> None:
    """Make a vector of the question."""
    async with _part_of_time(context, PART_SHARE):
        embedded = await context[SERVICES].embedder.embed(
            [context[CALL].question], timeout_s=context.remaining_s()
        )
    context.put(_VECTOR, embedded)


async def search_words(context: StepContext) -> None:
    """Find the passages that have words of the question."""
    found = await context[SERVICES].documents.search_words(
        context[_OWNER], context[CALL].question, POOL_SIZE
    )
    context.put(_BY_WORDS, tuple(found))


async def search_vectors(context: StepContext) -> None:
    """Find the passages that are near to the question."""
    embedded = context[_VECTOR]
    found = await context[SERVICES].documents.search_vectors(
        context[_OWNER], embedded.vectors[0], embedded.model, POOL_SIZE
    )
    context.put(_BY_VECTORS, tuple(found))


async def gather(context: StepContext) -> None:
    """Make one list of both, and find the sentences of its first passages."""
    words, vectors = context.find(_BY_WORDS), context.find(_BY_VECTORS)
    if words is None and vectors is None:
        raise WorkflowError(
            "Your documents could be searched neither by words nor by vectors.",
            remedy="Ask again; /health and the log say what is wrong.",
        )
    question = context[CALL].question
    context.put(_GATHERED, await asyncio.to_thread(_gather, question, words or (), vectors or ()))


def _gather(question: str, words: Sequence[Found], vectors: Sequence[Found]) -> Gathered:
    candidates = fuse(question, words, vectors)
    return Gathered(tuple(candidates), find_places([one.chunk for one in candidates[:NUM_READ]]))


async def read(context: StepContext) -> None:
    """Compare each sentence with the question."""
    places, embedded = context[_GATHERED].places, context[_VECTOR]
    if not places:
        context.put(_READ, ())
        return
    async with _part_of_time(context, PART_SHARE):
        texts = await asyncio.to_thread(lambda: [place.content for place in places])
        near = await context[SERVICES].embedder.embed(texts, timeout_s=context.remaining_s())
    compared = await asyncio.to_thread(_compare, places, near, embedded)
    context.put(_READ, compared)


def _compare(places: Sequence[Place], near: Embeddings, embedded: Embeddings) -> tuple[Place, ...]:
    # Vectors of length 1, or of none.
    cosines = near.vectors @ embedded.vectors[0]
    return with_cosines(places, cosines.tolist())


async def judge(context: StepContext) -> None:
    """Decide whether any passage answers."""
    gathered = context[_GATHERED]
    places = context.find(_READ)
    judged = await asyncio.to_thread(
        _judge, context, gathered, gathered.places if places is None else places
    )
    context.put(_JUDGED, judged)
    context.put(CONFIDENCE, judged.confidence)


def _judge(context: StepContext, gathered: Gathered, places: tuple[Place, ...]) -> Judged:
    call, candidates = context[CALL], gathered.candidates
    if not candidates:
        return Judged((), (), 0.0)
    wanted = call.passages
    evidence = _models().judge(measure(call.question, candidates), wanted.threshold)
    if not evidence.is_enough:
        return Judged((), (), evidence.probability)
    passages = candidates[: wanted.top_k]
    shown = [place for place in places if place.passage < len(passages)]
    quotes = choose_quotes(call.question, candidates, shown, _NUM_QUOTED)
    return Judged(passages, tuple(quotes), evidence.probability)


async def draft(context: StepContext) -> None:
    """Have the model answer from the passages, where they answer."""
    call, services, judged = context[CALL], context[SERVICES], context[_JUDGED]
    if not judged.passages:
        context.put(_DRAFT, Draft(None))
        return
    options = replace(
        call.options,
        max_tokens=call.options.max_tokens or _MAX_TOKENS,
        # What is to stand in the passages is best taken as likely as it is.
        temperature=0.0 if call.options.temperature is None else call.options.temperature,
    )
    passages = [one.chunk for one in judged.passages]
    async with _part_of_time(context, ANSWER_SHARE):
        prompt = await make_prompt(
            call, services, passages, max_tokens=options.max_tokens or _MAX_TOKENS
        )
        text = await services.models.answer(
            prompt, timeout_s=context.remaining_s(), options=options
        )
    context.put(_DRAFT, Draft(text))


async def answer(context: StepContext) -> None:
    """Say what of the draft the passages bear out, or quote them, or decline."""
    judged, drafted = context[_JUDGED], context.find(_DRAFT)
    text = None if drafted is None else drafted.text
    said = await asyncio.to_thread(_compose, context[CALL].question, judged, text)
    await context.say(said.text)
    context.put(ANSWER, said)
    context.put(SOURCES, tuple(_source_of(one) for one in judged.passages))


def _compose(question: str, judged: Judged, drafted: GeneratedText | None) -> GeneratedText:
    sources = [SourceText(one.chunk.heading, one.chunk.text) for one in judged.passages]
    if not sources:
        said = REFUSAL
    else:
        borne_out = bear_out(_whole_of(drafted), question, sources) if drafted else []
        said = " ".join(one.cited for one in borne_out) or "\n".join(
            quote(judged.passages[place.passage].chunk, place.sentence, place.passage + 1)
            for place in judged.quotes
        )
    return GeneratedText(
        text=said,
        model=drafted.model if drafted else "",
        engine=drafted.engine if drafted else "",
        finish_reason=FinishReason.STOP,
        reasoning=drafted.reasoning if drafted else "",
    )


def _whole_of(drafted: GeneratedText) -> str:
    """Return a draft without what its length has cut off."""
    if drafted.finish_reason is not FinishReason.LENGTH:
        return drafted.text
    end = max(drafted.text.rfind(mark) for mark in ".!?\u3002\n")
    return drafted.text[: end + 1]


def _source_of(candidate: Candidate) -> Source:
    chunk, found = candidate.chunk, candidate.found
    return Source(
        content=chunk.text,
        score=candidate.score,
        metadata={
            "document_id": chunk.document_id,
            "document": found.document_name,
            "heading": chunk.heading,
            "chunk": chunk.number,
            "start": chunk.metadata.start,
            "end": chunk.metadata.end,
            "page": chunk.metadata.page,
            "document_metadata": found.document_metadata,
        },
    )


def _part_of_time(context: StepContext, share: float) -> AbstractAsyncContextManager[None]:
    """Bound what is done by a share of the time that is left."""
    bound_s = share_of(context.remaining_s(), share)

    def too_slow() -> DeadlineError:
        return DeadlineError(
            f"Step {context.step} was not complete after {bound_s:.3g} s.", remedy=REMEDY
        )

    return within(bound_s, too_slow)


@cache
def _models() -> EvidenceModels:
    return load_models()


RAG_QA = Workflow(
    summary="Answers from the caller's documents, citing them, or says that they do not tell.",
    graph=Graph(
        name="rag_qa",
        inputs=(CALL, SERVICES),
        steps=(
            Step(name="look", run=look, inputs=(CALL, SERVICES), outputs=(_OWNER,)),
            Step(
                name="embed",
                run=embed,
                inputs=(CALL, SERVICES, _OWNER),
                outputs=(_VECTOR,),
                is_optional=True,
            ),
            Step(
                name="search_words",
                run=search_words,
                inputs=(CALL, SERVICES, _OWNER),
                outputs=(_BY_WORDS,),
                is_optional=True,
            ),
            Step(
                name="search_vectors",
                run=search_vectors,
                inputs=(SERVICES, _OWNER, _VECTOR),
                outputs=(_BY_VECTORS,),
                is_optional=True,
            ),
            Step(
                name="gather",
                run=gather,
                inputs=(CALL,),
                optional_inputs=(_BY_WORDS, _BY_VECTORS),
                outputs=(_GATHERED,),
            ),
            Step(
                name="read",
                run=read,
                inputs=(SERVICES, _VECTOR, _GATHERED),
                outputs=(_READ,),
                is_optional=True,
            ),
            Step(
                name="judge",
                run=judge,
                inputs=(CALL, _GATHERED),
                optional_inputs=(_READ,),
                outputs=(_JUDGED, CONFIDENCE),
            ),
            Step(
                name="draft",
                run=draft,
                inputs=(CALL, SERVICES, _JUDGED),
                outputs=(_DRAFT,),
                is_optional=True,
            ),
            Step(
                name="answer",
                run=answer,
                inputs=(CALL, _JUDGED),
                optional_inputs=(_DRAFT,),
                outputs=(ANSWER, SOURCES),
            ),
            KEEP,
        ),
        answer=ANSWER,
        results=(SOURCES, CONFIDENCE, KEPT),
    ),
)
