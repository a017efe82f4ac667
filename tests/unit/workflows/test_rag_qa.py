"""Answers from documents: what is cited, when it declines, and what each step's failure costs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    DocumentNotFoundError,
    EngineFailedError,
    ModelUnavailableError,
    StorageError,
    WorkflowError,
)
from mm_orch.core.generation import ChatPrompt, FinishReason, GenerationOptions, Message
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.call import PassageOptions, SessionCall, WorkflowCall
from mm_orch.workflows.contract import ANSWER, CONFIDENCE, KEPT, SOURCES
from mm_orch.workflows.rag_prompt import REFUSAL
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say
from tests.unit.storage.document_scene import open_documents
from tests.unit.workflows.rag_scene import (
    LIGHT,
    LIT,
    OWNER,
    QUESTION,
    STEPS,
    BagEmbedder,
    BrokenDocuments,
    store_light,
)
from tests.unit.workflows.scene import make_workflows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.storage.documents import DocumentStore
    from mm_orch.storage.sql_documents import SqlDocuments
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.running import Workflows

CRASH = EngineFailedError("It broke.")
TRUE = "Cape Merrow Light was first lit on 3 October 1834."


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlDocuments]:
    async with open_documents(tmp_path) as opened:
        await store_light(opened)
        yield opened


def make(
    store: DocumentStore,
    *said: str,
    embedder: BagEmbedder | None = None,
    generator: ScriptedGenerator | None = None,
    settings: WorkflowSettings | None = None,
) -> Workflows:
    return make_workflows(
        generator or ScriptedGenerator(say(*said)),
        # Nothing is kept.
        SqlSessions(SqliteDatabase(Path("/dev/null/sessions.sqlite3"))),
        settings,
        documents=store,
        embedder=embedder or BagEmbedder(),
    )


def make_call(question: str = QUESTION, **fields: Any) -> WorkflowCall:
    """Return a call that finds evidence in anything, if not told otherwise."""
    return WorkflowCall(
        **{
            "request_id": "r",
            "messages": (Message(role="user", content=question),),
            "owner": OWNER,
            "passages": PassageOptions(threshold=0.0),
            **fields,
        }
    )


async def run(workflows: Workflows, call: WorkflowCall) -> Outcome:
    async with workflows.open("rag_qa", call) as opened:
        return await opened.complete()


async def test_what_the_passages_bear_out_is_said_with_its_sources(store: SqlDocuments) -> None:
    outcome = await run(make(store, TRUE, " It has 999 steps [1]."), make_call())

    values = outcome.values
    assert values[ANSWER].text == f"{TRUE} [1]"
    assert values[ANSWER].model == "small"
    assert values[SOURCES][0].content == LIT
    assert values[SOURCES][0].metadata == {
        "document_id": values[SOURCES][0].metadata["document_id"],
        "document": "light.md",
        "heading": LIGHT,
        "chunk": 0,
        "start": 0,
        "end": len(LIT),
        "page": None,
        "document_metadata": {"shelf": 7},
    }
    assert 0 <= values[CONFIDENCE] <= 1
    assert not outcome.is_partial


@pytest.mark.parametrize("said", ["It was lit in 1066.", "", "I cannot tell.", "[1] [2]"])
async def test_where_nothing_of_the_draft_stands_there_a_passage_is_quoted(
    store: SqlDocuments, said: str
) -> None:
    outcome = await run(make(store, said), make_call())

    assert f'{LIGHT}: "{LIT}" [1]' in outcome.values[ANSWER].text.split("\n")


async def test_a_sentence_that_the_length_has_cut_off_is_left_out(store: SqlDocuments) -> None:
    script = say(TRUE, " The tower has 201", reason=FinishReason.LENGTH)
    outcome = await run(make(store, generator=ScriptedGenerator(script)), make_call())

    assert outcome.values[ANSWER].text == f"{TRUE} [1]"


async def test_without_evidence_it_declines_and_asks_no_model(store: SqlDocuments) -> None:
    generator = ScriptedGenerator()
    call = make_call("What is the capital of Mongolia?", passages=PassageOptions())

    outcome = await run(make(store, generator=generator), call)

    assert outcome.values[ANSWER].text == REFUSAL
    assert outcome.values[SOURCES] == ()
    assert outcome.values[CONFIDENCE] < 0.5
    assert generator.requests == []
    assert not outcome.is_partial


async def test_a_question_without_words_is_declined(store: SqlDocuments) -> None:
    outcome = await run(make(store), make_call("?!", passages=PassageOptions()))

    assert outcome.values[ANSWER].text == REFUSAL


@pytest.mark.parametrize("owner", ["", "name:bob"])
async def test_who_has_no_documents_is_told_to_upload_one(store: SqlDocuments, owner: str) -> None:
    embedder = BagEmbedder()

    with pytest.raises(DocumentNotFoundError, match="POST /api/rag/upload"):
        await run(make(store, embedder=embedder), make_call(owner=owner))

    assert embedder.requests == []


async def test_the_model_is_shown_the_caller_s_instructions_and_as_many_passages_as_fit(
    store: SqlDocuments,
) -> None:
    # A token a word. Instructions and question have 38 with those around messages, and each passage
    # about 16.
    for window_tokens, num_passages in ((1, 1), (75, 2), (1000, 3)):
        generator = ScriptedGenerator()
        messages = (
            Message(role="system", content="Be brief."),
            Message(role="user", content=QUESTION),
        )
        settings = WorkflowSettings(window_tokens=window_tokens)
        await run(make(store, generator=generator, settings=settings), make_call(messages=messages))

        prompt = generator.requests[0].prompt
        assert isinstance(prompt, ChatPrompt)
        system, asked = prompt.messages
        assert system.content.endswith("\n\nBe brief.")
        assert asked.content.endswith(f"Question: {QUESTION}")
        assert [f"[{number}]" in asked.content for number in (1, 2, 3)] == [
            number <= num_passages for number in (1, 2, 3)
        ]


async def test_no_more_passages_are_gone_by_than_were_asked_for(store: SqlDocuments) -> None:
    call = make_call(passages=PassageOptions(top_k=1, threshold=0.0))

    outcome = await run(make(store, "The tower has 201 steps."), call)

    assert [source.content for source in outcome.values[SOURCES]] == [LIT]
    assert "201" not in outcome.values[ANSWER].text


@pytest.mark.parametrize(
    ("refusals", "failing", "said", "failed", "skipped"),
    [
        ({0: CRASH}, {}, TRUE, ["embed"], {"search_vectors", "read"}),
        ({1: CRASH}, {}, TRUE, ["read"], set()),
        ({}, {"search_words": StorageError("Broken.")}, TRUE, ["search_words"], set()),
        ({}, {"search_vectors": StorageError("Broken.")}, TRUE, ["search_vectors"], set()),
        ({}, {}, None, ["draft"], set()),
        (
            {0: ModelUnavailableError("Loading.", retry_after_s=1)},
            {},
            None,
            ["embed", "draft"],
            {"search_vectors", "read"},
        ),
    ],
)
async def test_whatever_optional_step_fails_there_is_an_answer(
    store: SqlDocuments,
    refusals: dict[int, Exception],
    failing: dict[str, Exception],
    said: str | None,
    failed: list[str],
    skipped: set[str],
) -> None:
    generator = ScriptedGenerator([CRASH] if said is None else say(said))
    workflows = make(
        BrokenDocuments(store, failing),  # type: ignore[arg-type]  # the store within is one
        embedder=BagEmbedder(refusals=refusals),
        generator=generator,
    )

    outcome = await run(workflows, make_call())

    expected = f'{LIGHT}: "{LIT}" [1]' if said is None else f"{said} [1]"
    assert outcome.values[ANSWER].text.split("\n")[0] == expected
    assert [one.step for one in outcome.failed] == failed
    assert set(outcome.skipped) == skipped
    assert outcome.is_partial


async def test_without_any_search_it_fails_and_says_so(store: SqlDocuments) -> None:
    broken = BrokenDocuments(store, {"search_words": StorageError("Broken.")})
    workflows = make(
        broken,  # type: ignore[arg-type]  # the store within is one
        embedder=BagEmbedder(refusals={0: CRASH}),
    )

    with pytest.raises(WorkflowError, match="neither by words nor by vectors"):
        await run(workflows, make_call())


async def test_a_store_that_cannot_be_read_is_told_of(store: SqlDocuments) -> None:
    broken = BrokenDocuments(store, {"has_documents": StorageError("The disk is gone.")})

    with pytest.raises(StorageError, match="The disk is gone"):
        await run(make(broken), make_call())  # type: ignore[arg-type]  # as above


async def test_leaving_the_run_ends_its_generation(store: SqlDocuments) -> None:
    generator = ScriptedGenerator([*say("Cape")[:1], HOLD])

    async with make(store, generator=generator).open("rag_qa", make_call()) as opened:
        reading = asyncio.create_task(opened.complete())
        await generator.has_opened.wait()
        assert generator.num_open == 1
    await asyncio.gather(reading, return_exceptions=True)

    assert generator.num_open == 0


async def test_a_model_that_is_too_slow_leaves_time_to_quote(store: SqlDocuments) -> None:
    generator = ScriptedGenerator([HOLD])

    outcome = await run(make(store, generator=generator), make_call(timeout_s=2.0))

    assert [one.step for one in outcome.failed] == ["draft"]
    assert isinstance(outcome.failed[0].error, DeadlineError)
    assert f'"{LIT}" [1]' in outcome.values[ANSWER].text
    assert generator.num_open == 0


async def test_an_embedder_that_is_too_slow_leaves_time_to_search_words(
    store: SqlDocuments,
) -> None:
    begin_s = time.monotonic()
    embedder = BagEmbedder(held=frozenset({0}))

    outcome = await run(make(store, TRUE, embedder=embedder), make_call(timeout_s=2.0))

    assert [one.step for one in outcome.failed] == ["embed"]
    assert outcome.values[ANSWER].text == f"{TRUE} [1]"
    assert time.monotonic() - begin_s < 2.0


async def test_a_turn_of_a_session_is_kept(store: SqlDocuments) -> None:
    sessions = SqlSessions(store._database)
    workflows = make_workflows(
        ScriptedGenerator(say(TRUE)), sessions, documents=store, embedder=BagEmbedder()
    )
    session = SessionCall(session_id="s", is_new=True)

    outcome = await run(workflows, make_call(session=session))

    kept = outcome.values[KEPT].turn
    assert kept is not None
    stored = await sessions.read(OWNER, kept.session_id)
    assert stored.turns[0].assistant.content == f"{TRUE} [1]"


async def test_the_caller_s_options_and_priority_reach_both_models(store: SqlDocuments) -> None:
    generator, embedder = ScriptedGenerator(say(TRUE)), BagEmbedder()
    options = GenerationOptions(max_tokens=9, temperature=0.7)

    await run(
        make(store, generator=generator, embedder=embedder),
        make_call(options=options, priority=3, caller="ada"),
    )

    request = generator.requests[0]
    assert (request.options, request.priority, request.caller) == (options, 3, "ada")
    assert [(one.priority, one.caller) for one in embedder.requests] == [(3, "ada")] * 2
    # Question and sentences are embedded with what they are about.
    assert embedder.requests[0].inputs == (QUESTION,)
    assert f"{LIGHT}: {STEPS}" in embedder.requests[1].inputs
