"""The conversation workflow: what the model is shown, what is kept, who waits for whom."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import DeadlineError, QueueFullError, SessionNotFoundError
from mm_orch.core.generation import ChatPrompt, GenerationOptions, Message
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.call import SessionCall, WorkflowCall
from mm_orch.workflows.contract import ANSWER, KEPT
from mm_orch.workflows.generating import RunModels
from mm_orch.workflows.running import WorkflowSettings
from mm_orch.workflows.window import find_budget
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say
from tests.unit.storage.scene import fill, open_store, texts_of
from tests.unit.workflows.scene import make_workflows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.running import Workflows

OWNER = "name:alice"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlSessions]:
    async with open_store(tmp_path) as opened:
        yield opened


def make_call(question: str, **fields: object) -> WorkflowCall:
    return WorkflowCall(
        request_id="r",
        messages=(Message(role="user", content=question),),
        owner=OWNER,
        **fields,  # type: ignore[arg-type]  # by name
    )


def going_on(session_id: str = "s") -> SessionCall:
    return SessionCall(session_id=session_id, is_new=False)


async def answer(workflows: Workflows, call: WorkflowCall) -> Outcome:
    async with workflows.open("chat_generate", call) as run:
        return await run.complete()


def shown(generator: ScriptedGenerator) -> list[str]:
    """Return the texts that the last generation was shown."""
    prompt = generator.requests[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    return [message.content for message in prompt.messages]


# Each turn of the store has 6 words in two messages, so 8 tokens; the question has 2.
@pytest.mark.parametrize(
    ("window_tokens", "num_turns"), [(1, 0), (9, 0), (10, 1), (17, 1), (18, 2), (1000, 5)]
)
async def test_the_last_turns_that_fit_the_configured_window_are_shown_whole(
    store: SqlSessions, window_tokens: int, num_turns: int
) -> None:
    await fill(store, "s", 5)
    generator = ScriptedGenerator()
    workflows = make_workflows(generator, store, WorkflowSettings(window_tokens=window_tokens))

    await answer(workflows, make_call("Why?", session=going_on()))

    expected = [
        text
        for number in range(5 - num_turns, 5)
        for text in (f"question {number} of s", f"answer {number}")
    ]
    assert shown(generator) == [*expected, "Why?"]


async def test_the_answers_length_is_kept_free_of_the_models_context(
    store: SqlSessions,
) -> None:
    await fill(store, "s", 3)
    generator = ScriptedGenerator()
    # Of 1000 tokens, 12 are left: the question and one turn.
    options = GenerationOptions(max_tokens=988)

    await answer(
        make_workflows(generator, store), make_call("Why?", session=going_on(), options=options)
    )

    assert shown(generator) == ["question 2 of s", "answer 2", "Why?"]


@pytest.mark.parametrize(
    ("context_length", "max_tokens", "window_tokens", "budget"),
    [
        (1000, None, None, 750),
        (1000, 100, None, 900),
        (1000, 100, 500, 500),
        (1000, None, 5000, 750),
        (1000, 2000, None, -1000),
        (None, 100, 500, 500),
        (None, 100, None, None),
    ],
)
def test_the_budget_is_the_tightest_bound(
    context_length: int | None,
    max_tokens: int | None,
    window_tokens: int | None,
    budget: int | None,
) -> None:
    found = find_budget(context_length, max_tokens=max_tokens, window_tokens=window_tokens)

    assert found == budget


@pytest.mark.parametrize(("window_tokens", "num_turns"), [(None, 5), (30, 1)])
async def test_for_a_server_elsewhere_tokens_are_guessed_where_a_window_is_set(
    store: SqlSessions, window_tokens: int | None, num_turns: int
) -> None:
    await fill(store, "s", 5)
    generator = ScriptedGenerator(say("Yes."), router=_Anything())
    workflows = make_workflows(generator, store, WorkflowSettings(window_tokens=window_tokens))

    await answer(workflows, make_call("Why?", session=going_on(), model="far"))

    assert len(shown(generator)) == 2 * num_turns + 1


class _Anything:
    def choose(self, name: str | None) -> str:
        return name or "small"


async def test_instructions_and_turns_of_the_caller_stand_around_those_of_the_session(
    store: SqlSessions,
) -> None:
    await fill(store, "s", 1)
    generator = ScriptedGenerator()
    call = WorkflowCall(
        request_id="r",
        owner=OWNER,
        session=going_on(),
        messages=(
            Message(role="system", content="Be kind."),
            Message(role="user", content="One"),
            Message(role="assistant", content="Two"),
            Message(role="user", content="Three"),
        ),
    )

    await answer(make_workflows(generator, store), call)

    assert shown(generator) == ["Be kind.", "question 0 of s", "answer 0", "One", "Two", "Three"]


async def test_a_new_session_is_stored_when_its_first_answer_is_complete(
    store: SqlSessions,
) -> None:
    session = SessionCall(session_id="new", is_new=True)

    outcome = await answer(
        make_workflows(ScriptedGenerator(), store), make_call("Hi", session=session)
    )

    kept = outcome.values[KEPT].turn
    assert kept is not None
    assert (kept.session_id, kept.num_turns) == ("new", 1)
    assert outcome.values[ANSWER].text == "Hello world"
    assert texts_of(await store.read(OWNER, "new")) == [("Hi", "Hello world")]


async def test_an_answer_that_breaks_off_leaves_the_session_as_it_was(
    store: SqlSessions,
) -> None:
    await fill(store, "s", 1)
    generator = ScriptedGenerator([*say("Hel")[:1], HOLD])
    workflows = make_workflows(generator, store)

    async with workflows.open("chat_generate", make_call("Hi", session=going_on())) as run:
        async for event in run:
            if getattr(event, "text", "") == "Hel":
                break

    assert generator.num_open == 0
    assert len((await store.read(OWNER, "s")).turns) == 1
    # The session is free again.
    generator.script = say("Yes.")
    await answer(workflows, make_call("Hi", session=going_on()))
    assert not workflows._locks._by_session


async def test_messages_of_one_session_follow_one_another_and_other_sessions_do_not_wait(
    store: SqlSessions,
) -> None:
    for name in ("s", "other"):
        await fill(store, name, 1)
    generator = ScriptedGenerator(
        scripts=[[*say("1")[:1], HOLD], say("other's"), say("2"), say("3")]
    )
    workflows = make_workflows(generator, store)
    async with workflows.open("chat_generate", make_call("first", session=going_on())) as run:
        events = aiter(run)
        while getattr(await anext(events), "text", "") != "1":
            pass
        waiting = asyncio.create_task(answer(workflows, make_call("next", session=going_on())))

        await answer(workflows, make_call("else", session=going_on("other")))

        assert len(generator.requests) == 2
        assert not waiting.done()
    await waiting

    assert shown(generator) == ["question 0 of s", "answer 0", "next"]


async def test_who_waits_too_long_for_its_session_is_told_so(store: SqlSessions) -> None:
    await fill(store, "s", 1)
    generator = ScriptedGenerator([HOLD])
    workflows = make_workflows(generator, store)
    async with workflows.open("chat_generate", make_call("first", session=going_on())):
        call = make_call("next", session=going_on(), timeout_s=0.01)
        with pytest.raises(DeadlineError, match="session s was still being answered"):
            await answer(workflows, call)


async def test_a_session_takes_so_many_messages_and_refuses_more(store: SqlSessions) -> None:
    await fill(store, "s", 1)
    generator = ScriptedGenerator([HOLD])
    workflows = make_workflows(generator, store)
    async with workflows.open("chat_generate", make_call("first", session=going_on())):
        waiting = [
            asyncio.create_task(answer(workflows, make_call("next", session=going_on())))
            for _ in range(20)
        ]
        done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

        assert (len(done), len(others)) == (12, 8)
        errors = [one.exception() for one in done]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    for error in errors:
        assert isinstance(error, QueueFullError)
        assert error.retry_after_s > 0
        assert "8 messages of the session s wait" in str(error)
    assert not workflows._locks._by_session


async def test_who_is_refused_by_the_queue_costs_nothing(tmp_path: Path) -> None:
    generator = ScriptedGenerator(refusal=QueueFullError("full", retry_after_s=3))
    # A store that cannot be opened: whoever asks it fails otherwise.
    workflows = make_workflows(
        generator, SqlSessions(SqliteDatabase(tmp_path / "a/b", migrations=()))
    )

    with pytest.raises(QueueFullError, match="full"):
        await answer(workflows, make_call("Hi", session=going_on(), priority=3, model="tiny"))

    [run] = generator.runs
    assert (run.model, run.priority, run.workflow) == ("tiny", 3, "chat_generate")
    assert (generator.requests, workflows._locks._by_session) == ([], {})


async def test_the_deadline_counts_from_the_call_and_is_told_as_it_was_given(
    store: SqlSessions,
) -> None:
    await fill(store, "s", 1)
    is_free = threading.Event()
    workflows = make_workflows(ScriptedGenerator([HOLD]), store)
    call = make_call("Hi", session=going_on(), timeout_s=0.05)

    with pytest.raises(
        DeadlineError, match=r"chat_generate was not complete after 0\.05 s"
    ) as late:
        await answer(workflows, call)
    assert "raise timeout_s or workflows.deadline_s" in str(late.value)
    # Nor does it wait for a store that does not answer.
    busy = asyncio.create_task(store._database.write(lambda _: is_free.wait()))
    # Its turn comes before the next call's.
    await asyncio.sleep(0)
    with pytest.raises(DeadlineError, match=r"chat_generate was not complete after 0\.05 s"):
        await answer(workflows, call)
    is_free.set()
    await busy


@pytest.mark.parametrize(("left_s", "asked_s"), [(0.0, 0.01), (0.497799, 0.5), (None, None)])
async def test_a_models_time_is_never_less_than_what_is_left(
    left_s: float | None, asked_s: float | None
) -> None:
    generator = ScriptedGenerator()
    models = RunModels(generator, "any", make_call("Hi"))

    await models.answer((), say=_ignore, timeout_s=left_s)

    assert generator.requests[0].timeout_s == asked_s


async def _ignore(_: str) -> None: ...


async def test_a_session_that_is_not_there_stops_the_call_before_any_step(
    store: SqlSessions,
) -> None:
    generator = ScriptedGenerator()

    with pytest.raises(SessionNotFoundError):
        await answer(make_workflows(generator, store), make_call("Hi", session=going_on("x")))

    assert not generator.requests
