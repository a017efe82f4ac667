"""The cascade: when it asks again, whom, and what becomes of those who do not answer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from mm_orch.consciousness.confidence import Confidence
from mm_orch.consciousness.gauge import Gauge
from mm_orch.core.errors import (
    EngineFailedError,
    InvalidValueError,
    ModelUnavailableError,
    NotServedError,
)
from mm_orch.core.generation import ChatPrompt, GenerationOptions, TextDelta
from mm_orch.workflows.cascade_settings import CascadeSettings, decide
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.graph_progress import AnswerPiece, StepEnded
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say, tell, think
from tests.unit.storage.scene import fill, open_store, texts_of
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.test_chat_generate import OWNER, going_on, make_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.graph_runner import Outcome
    from tests.unit.api.scripted_generator import Step

QUESTION = "What is the capital of France?"
SURE, UNSURE = math.log(0.9), math.log(0.3)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlSessions]:
    async with open_store(tmp_path) as opened:
        yield opened


def tokens(text: str, logprob: float) -> list[Step]:
    """Script an answer of one token whose log probability is told."""
    delta = TextDelta(index=0, text=text, num_tokens=1, logprobs=(tell(text, logprob),))
    return [delta, *say()]


def fault(text: str = "broken") -> EngineFailedError:
    return EngineFailedError(text)


def settings(unsure_below: float | None = None, **fields: object) -> WorkflowSettings:
    cascade = CascadeSettings(
        **{"is_enabled": True, "num_samples": 3, "min_confidence": 0.6, **fields}  # type: ignore[arg-type]  # by name
    )
    return WorkflowSettings(cascade=cascade, gauge=Gauge(unsure_below=unsure_below))


class Played:
    """A run of the cascade over a script, with all that it told."""

    def __init__(self, outcome: Outcome, events: Sequence[object], model: str) -> None:
        self.outcome = outcome
        self.answer = outcome.values[ANSWER]
        self.model = model
        self.said = "".join(one.text for one in events if isinstance(one, AnswerPiece))
        self.remark_by_step = {
            one.step: one.remark for one in events if isinstance(one, StepEnded) and one.remark
        }
        self.failed = [(one.step, str(one.error)) for one in outcome.failed]


def assert_sure(played: Played, value: float) -> None:
    confidence = played.answer.confidence
    assert confidence is not None
    assert confidence.value == pytest.approx(value)
    assert not confidence.is_calibrated


async def play(
    store: SqlSessions,
    generator: ScriptedGenerator,
    own: WorkflowSettings | None = None,
    call: WorkflowCall | None = None,
) -> Played:
    workflows = make_workflows(generator, store, own or settings())
    async with workflows.open("cascade", call or make_call(QUESTION)) as run:
        events = [event async for event in run]
        assert run.models.last is not None
        return Played(run.outcome, events, run.models.last.model)


def scripted(*scripts: Sequence[Step]) -> ScriptedGenerator:
    return ScriptedGenerator(scripts=scripts)


@pytest.mark.parametrize(
    ("model", "value", "min_confidence", "large_model", "way"),
    [
        ("small", 0.7, 0.6, None, "take"),
        ("small", 0.6, 0.6, None, "take"),
        ("small", 0.5, 0.6, None, "vote"),
        ("small", 0.5, 0.6, "large", "ask_large"),
        ("large", 0.5, 0.6, "large", "vote"),
        ("small", None, 0.6, None, "vote"),
        ("small", None, 0.0, "large", "ask_large"),
        ("small", 0.0, 0.0, None, "take"),
        ("small", 1.0, 1.0, None, "vote"),
        (None, None, 0.6, None, "vote"),
        (None, None, 0.6, "large", "ask_large"),
    ],
)
def test_what_is_done_after_the_first_answer(
    model: str | None,
    value: float | None,
    min_confidence: float,
    large_model: str | None,
    way: str,
) -> None:
    confidence = None if value is None else Confidence(value=value, is_calibrated=True)

    decision = decide(
        CascadeSettings(min_confidence=min_confidence, large_model=large_model),
        model=model,
        confidence=confidence,
    )

    assert decision.way == way
    assert value is None or f"{value:.2f} sure (calibrated)" in decision.reason


async def test_a_sure_first_answer_is_the_answer(store: SqlSessions) -> None:
    generator = scripted(tokens("Paris", SURE))

    played = await play(store, generator)

    assert (played.said, played.answer.text) == ("Paris", "Paris")
    assert_sure(played, 0.9)
    assert played.remark_by_step == {
        "draft": "The first answer is 0.90 sure (not calibrated); 0.60 is enough.",
        "answer": "The first answer is the answer.",
    }
    [request] = generator.requests
    assert request.tells_logprobs
    assert request.options.temperature == 0.0
    assert not played.outcome.is_partial


async def test_an_unsure_first_answer_is_put_to_a_vote(store: SqlSessions) -> None:
    generator = scripted(
        *[tokens(text, UNSURE) for text in ("Lyon", "Paris", "The capital is Paris.", "Lyon")]
    )

    played = await play(store, generator)

    # Two and two: the first answer counts for more than any other.
    assert (played.said, played.answer.confidence) == (
        "Lyon",
        Confidence(value=0.5, is_calibrated=False),
    )
    assert played.remark_by_step["draft"].endswith(
        "below 0.60: 3 more answers are asked for, to vote."
    )
    assert played.remark_by_step["answer"] == ("2 of 4 answers agree, the first one among them.")


async def test_the_majority_wins_over_the_first_answer(store: SqlSessions) -> None:
    generator = scripted(
        *[tokens(text, UNSURE) for text in ("Lyon", "Paris", "The capital is Paris.", "paris")]
    )

    played = await play(store, generator)

    assert played.said == played.answer.text == "Paris"
    assert played.remark_by_step["answer"] == "3 of 4 answers agree."
    assert played.answer.confidence == Confidence(value=0.75, is_calibrated=False)


async def test_an_answer_that_is_surer_counts_for_more(store: SqlSessions) -> None:
    generator = scripted(
        tokens("Lyon", UNSURE), tokens("Paris", SURE), tokens("Lyon", UNSURE), say("")
    )

    played = await play(store, generator)

    assert played.said == "Paris"
    assert played.remark_by_step["answer"] == "1 of 4 answers agree."
    assert_sure(played, 0.6)


async def test_further_answers_are_asked_for_at_once_and_differ_by_their_seeds(
    store: SqlSessions,
) -> None:
    generator = scripted(tokens("Lyon", UNSURE), *[say("Paris")] * 3)
    most_open = 0

    def count() -> None:
        nonlocal most_open
        most_open = max(most_open, generator.num_open)

    generator.on_open = count
    options = GenerationOptions(max_tokens=9, seed=7)

    await play(store, generator, call=make_call(QUESTION, options=options))

    assert most_open == 3
    asked = [request.options for request in generator.requests]
    assert [one.seed for one in asked] == [7, 8, 9, 10]
    assert [one.temperature for one in asked] == [0.0, 0.7, 0.7, 0.7]
    assert {one.max_tokens for one in asked} == {9}
    assert {request.request_id for request in generator.requests} == {"r"}


async def test_a_larger_model_is_asked_where_there_is_one(store: SqlSessions) -> None:
    generator = scripted(tokens("Lyon", UNSURE), [*think("Hm."), *tokens("Paris", SURE)])

    played = await play(store, generator, settings(large_model="large"))

    assert [request.model for request in generator.requests] == [None, "large"]
    assert (played.said, played.answer.model) == ("Paris", "large")
    assert_sure(played, 0.9)
    assert played.remark_by_step == {
        "draft": "The first answer is 0.30 sure (not calibrated), below 0.60: large is asked.",
        "answer": "large has answered.",
    }


async def test_where_the_larger_model_fails_the_first_answer_is_told_as_partial(
    store: SqlSessions,
) -> None:
    generator = scripted(tokens("Lyon", UNSURE), [fault("no memory")])

    played = await play(store, generator, settings(large_model="large"))

    assert played.said == played.answer.text == "Lyon"
    assert played.outcome.is_partial
    # Who has answered is told, not who was asked last.
    assert (played.model, played.answer.model) == ("small", "small")
    [(step, reason)] = played.failed
    assert step == "answer"
    assert "no memory" in reason
    assert played.remark_by_step["answer"] == "large failed: the first answer is the answer."


async def test_a_larger_model_that_breaks_off_in_the_middle_ends_the_run(
    store: SqlSessions,
) -> None:
    generator = scripted(tokens("Lyon", UNSURE), [*say("Par")[:1], fault("gone")])

    with pytest.raises(EngineFailedError, match="gone"):
        await play(store, generator, settings(large_model="large"))


@pytest.mark.parametrize("num_failing", [1, 2])
async def test_samples_that_fail_are_done_without(store: SqlSessions, num_failing: int) -> None:
    scripts = [[fault()]] * num_failing + [say("Paris")] * (3 - num_failing)
    generator = scripted(tokens("Paris", UNSURE), *scripts)

    played = await play(store, generator)

    assert played.answer.text == "Paris"
    assert [step for step, _ in played.failed] == ["answer"] * num_failing
    assert played.remark_by_step["answer"].startswith(f"{4 - num_failing} of {4 - num_failing}")


async def test_where_all_samples_fail_the_first_answer_stays_as_sure_as_it_was(
    store: SqlSessions,
) -> None:
    generator = scripted(tokens("Lyon", UNSURE), *[[fault()]] * 3)

    played = await play(store, generator)

    assert played.said == "Lyon"
    assert_sure(played, 0.3)
    assert len(played.failed) == 3
    assert played.remark_by_step["answer"].startswith("No other answer came")


@pytest.mark.parametrize(
    ("own", "scripts", "text"),
    [
        (settings(), [say("Paris"), say("Lyon"), say("Paris")], "Paris"),
        (settings(large_model="large"), [say("Paris")], "Paris"),
    ],
)
async def test_without_a_first_answer_the_others_answer(
    store: SqlSessions, own: WorkflowSettings, scripts: Sequence[Sequence[Step]], text: str
) -> None:
    generator = scripted([ModelUnavailableError("not now", retry_after_s=1)], *scripts)

    played = await play(store, generator, own)

    assert played.answer.text == text
    [(step, reason)] = played.failed
    assert step == "draft"
    assert "not now" in reason


@pytest.mark.parametrize("large_model", [None, "large"])
async def test_where_nobody_answers_the_run_fails_of_the_reason(
    store: SqlSessions, large_model: str | None
) -> None:
    generator = ScriptedGenerator([InvalidValueError("too hot", param="temperature")])

    with pytest.raises(InvalidValueError, match="too hot"):
        await play(store, generator, settings(large_model=large_model))
    assert generator.num_open == 0


async def test_an_engine_that_tells_no_probabilities_is_asked_again(
    store: SqlSessions,
) -> None:
    generator = scripted(*[say("Paris")] * 4)

    played = await play(store, generator)

    assert "Nothing is known of how sure" in played.remark_by_step["draft"]
    assert played.answer.confidence == Confidence(value=1.0, is_calibrated=False)


async def test_samples_that_take_too_long_leave_time_to_give_the_first_answer(
    store: SqlSessions,
) -> None:
    generator = scripted(tokens("Lyon", UNSURE), *[say("Paris")] * 3)

    await play(store, generator, call=make_call(QUESTION, timeout_s=100))

    first, *others = [request.timeout_s for request in generator.requests]
    assert first is not None
    assert 99 < first <= 100
    assert all(one is not None and 89 < one <= 90 for one in others)


async def test_whoever_leaves_ends_all_samples(store: SqlSessions) -> None:
    generator = scripted(tokens("Lyon", UNSURE), *[[HOLD]] * 3)
    workflows = make_workflows(generator, store, settings())
    async with workflows.open("cascade", make_call(QUESTION)) as run:
        async for event in run:
            if isinstance(event, StepEnded) and event.step == "draft":
                break
        while generator.num_open < 3:  # noqa: ASYNC110 - they are asked in the run's own time
            await asyncio.sleep(0)

    assert generator.num_open == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Lyon", "Lyon\n\n(I am not sure of this.)"),
        ("\u91cc\u6602", "\u91cc\u6602\n\n\uff08\u6211\u4e0d\u786e\u5b9a\u3002\uff09"),
    ],
)
async def test_an_unsure_answer_says_so_where_the_operator_wants_it(
    store: SqlSessions, text: str, said: str
) -> None:
    generator = scripted(tokens(text, UNSURE))

    played = await play(store, generator, settings(unsure_below=0.5, min_confidence=0.0))

    assert played.said == played.answer.text == said
    assert played.answer.confidence is not None
    assert played.answer.confidence.is_unsure


async def test_a_session_goes_on_with_what_was_answered(store: SqlSessions) -> None:
    await fill(store, "s", 1)
    generator = scripted(tokens("Paris", SURE))

    await play(store, generator, call=make_call(QUESTION, session=going_on()))

    prompt = generator.requests[0].prompt
    assert isinstance(prompt, ChatPrompt)
    assert len(prompt.messages) == 3
    assert texts_of(await store.read(OWNER, "s"))[-1] == (QUESTION, "Paris")


async def test_switched_off_it_is_refused_with_how_to_switch_it_on(
    store: SqlSessions,
) -> None:
    workflows = make_workflows(ScriptedGenerator(), store)

    with pytest.raises(NotServedError, match=r"workflows\.cascade\.enabled is false") as refused:
        await workflows.find("cascade", param="workflow_type")

    assert refused.value.param == "workflow_type"
    assert "Set workflows.cascade.enabled to true" in (refused.value.remedy or "")
    assert "cascade" not in [one.name for one in await workflows.list_all()]
    on = make_workflows(ScriptedGenerator(), store, settings())
    assert "cascade" in [one.name for one in await on.list_all()]
