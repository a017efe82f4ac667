"""The lesson workflow with a model that writes what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.lesson_judge import judge
from mm_orch.core.errors import DeadlineError, EngineFailedError, InvalidValueError, WorkflowError
from mm_orch.core.generation import ChatPrompt, FinishReason, GenerationOptions, Message
from mm_orch.core.observers import ObserverFanOut
from mm_orch.routing.router import Router
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.account import Watch
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.graph_progress import AnswerPiece, StepEnded
from mm_orch.workflows.lesson_pack import LESSON_PACK
from mm_orch.workflows.lesson_pieces import MAX_ATTEMPTS
from mm_orch.workflows.lesson_shapes import SHAPES
from mm_orch.workflows.registry import WorkflowRegistry
from tests.unit.api.scripted_generator import say, think
from tests.unit.workflows.lesson_model import (
    PLAN,
    QUESTIONS,
    TEXTS,
    Kind,
    LessonModel,
    write_well,
)
from tests.unit.workflows.scene import make_workflows
from tests.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from mm_orch.workflows.graph_runner import Outcome

# No call here belongs to a session, so nothing is ever opened.
NOWHERE = Path("none")
QUERY = "Explain photosynthesis with three exercises."


def make_call(query: str = QUERY, **fields: Any) -> WorkflowCall:
    earlier = fields.pop("earlier", ())
    messages = (*earlier, Message(role="user", content=query))
    return WorkflowCall(request_id="r", messages=messages, **fields)


async def teach(model: LessonModel, call: WorkflowCall | None = None) -> Outcome:
    workflows = make_workflows(model, SqlSessions(SqliteDatabase(NOWHERE)))
    async with workflows.open("lesson_pack", call or make_call()) as run:
        return await run.complete()


async def teach_by_loop(model: LessonModel, call: WorkflowCall) -> Outcome:
    clock = asyncio.get_running_loop().time
    registry = WorkflowRegistry()
    # Else a thread would import it, which a loop without time does not wait for.
    registry._found["lesson_pack"] = LESSON_PACK
    workflows = make_workflows(
        model,
        SqlSessions(SqliteDatabase(NOWHERE)),
        registry=registry,
        watch=Watch(ObserverFanOut(), clock),
    )
    async with workflows.open("lesson_pack", call) as run:
        return await run.complete()


def lesson_of(outcome: Outcome) -> dict[str, Any]:
    answer = outcome.values[ANSWER]
    assert judge(answer.text, answer.finish_reason.value) == {}
    lesson: dict[str, Any] = json.loads(answer.text)
    return lesson


async def test_a_lesson_is_what_the_model_planned_explained_and_asked() -> None:
    model = LessonModel()

    outcome = await teach(model)

    assert not outcome.is_partial
    assert lesson_of(outcome) == {
        "title": PLAN["title"],
        "language": "en",
        "level": "general",
        "plan": {"objectives": PLAN["objectives"], "sections": PLAN["headings"]},
        "explanation": [
            {"heading": heading, "text": text}
            for heading, text in zip(PLAN["headings"], TEXTS, strict=True)
        ],
        "exercises": [
            {"kind": "question", "question": question, "answer": f"Answer number {number}."}
            for number, question in enumerate(QUESTIONS[:3])
        ],
    }
    assert model.asked == {"plan": 1, "section": 3, "exercise": 3}


async def test_what_happens_is_told_step_by_step_and_the_lesson_in_one_piece() -> None:
    workflows = make_workflows(LessonModel(), SqlSessions(SqliteDatabase(NOWHERE)))

    async with workflows.open("lesson_pack", make_call()) as run:
        events = [event async for event in run]

    ended = [event.step for event in events if isinstance(event, StepEnded)]
    assert ended == ["begin", "plan", "explain", "exercises", "assemble", "keep"]
    [piece] = [event for event in events if isinstance(event, AnswerPiece)]
    assert piece.text == run.outcome.values[ANSWER].text


async def test_sections_are_written_side_by_side_and_end_with_the_run() -> None:
    model = LessonModel(
        write=lambda kind, number: write_well(kind, number) if kind == "plan" else None
    )
    are_open = asyncio.Event()
    model.on_open = lambda: are_open.set() if model.num_open == 3 else None
    workflows = make_workflows(model, SqlSessions(SqliteDatabase(NOWHERE)))

    async with workflows.open("lesson_pack", make_call()):
        await are_open.wait()

    assert model.asked == {"plan": 1, "section": 3}
    assert model.num_open == 0
    for heading, prompt in zip(PLAN["headings"], model.prompts_for("section"), strict=True):
        assert heading in prompt


@pytest.mark.parametrize("kind", ["plan", "section", "exercise"])
async def test_a_piece_that_cannot_be_used_is_drawn_again_otherwise(kind: Kind) -> None:
    def write(asked: Kind, number: int) -> str:
        if asked == kind:
            return "{}" if number == 0 else write_well(asked, number - 1)
        return write_well(asked, number)

    model = LessonModel(write=write)

    outcome = await teach(model, make_call(options=GenerationOptions(seed=5)))

    assert not outcome.is_partial
    lesson = lesson_of(outcome)
    assert {one["kind"] for one in lesson["exercises"]} == {"question"}
    requests = model.requests_for(kind)
    seeds = [request.options.seed for request in requests]
    assert len(set(seeds)) == len(seeds)
    first, again = requests[0].options, requests[-1].options
    assert first.temperature is not None
    assert again.temperature is not None
    assert again.temperature > first.temperature


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTIONS[0], "Water."),
        (QUESTIONS[0].upper().replace("?", " ..."), "Water."),
        ("What do the plants need to grow well?", "Water."),
        ("What is a root?", "What is a root?"),
        ("What is a root?", "Question: what is a root!"),
        ("What is a root?", "..."),
        ("What is a root?", "The answer"),
        ("What?", "A question."),
        (TEXTS[1], "That is so."),
        ("Explain photosynthesis with two questions!", "I will."),
        ("the root the root the root the root", "Round and round."),
        ("什么是植物的根", "根"),
    ],
)
async def test_an_exercise_that_teaches_nothing_is_not_taken(question: str, answer: str) -> None:
    """Of two exercises the model writes this one as the second, always."""

    def write(kind: Kind, number: int) -> str:
        if kind == "exercise" and number:
            return json.dumps({"question": question, "answer": answer})
        return write_well(kind, number)

    model = LessonModel(write=write)

    outcome = await teach(model, make_call("Explain photosynthesis with two questions."))

    first, second = lesson_of(outcome)["exercises"]
    assert first["question"] == QUESTIONS[0]
    # What the lesson itself says stands in for it.
    assert second["kind"] == "gap"
    sentence = second["question"].removeprefix("Fill in the gap: ")
    assert sentence.replace("_____", second["answer"]).casefold() in " ".join(TEXTS).casefold()
    assert model.asked["exercise"] == 1 + MAX_ATTEMPTS
    # It is a way of its own to make an exercise, and no failure.
    assert not outcome.is_partial


async def test_a_model_whose_pieces_are_all_cut_gives_no_lesson() -> None:
    model = LessonModel(reasons=dict.fromkeys(("plan", "section"), FinishReason.LENGTH))

    with pytest.raises(WorkflowError, match="no explanation that can be used"):
        await teach(model)

    assert model.asked == {"plan": MAX_ATTEMPTS, "section": 3 * MAX_ATTEMPTS}


async def test_a_plan_is_put_together_of_what_can_be_used_of_each_attempt() -> None:
    lines = PLAN["objectives"][0]
    attempts = [
        {"title": "...", "objectives": [lines] * 3, "headings": ["One thing", "one THING!", "???"]},
        {
            "title": "Leaves",
            "objectives": ["Say more.", lines, "Ask why."],
            "headings": ["Two"] * 3,
        },
    ]

    def write(kind: Kind, number: int) -> str:
        if kind == "plan":
            return json.dumps(attempts[min(number, 1)])
        return write_well(kind, number)

    lesson = lesson_of(await teach(LessonModel(write=write)))

    assert lesson["title"] == "Leaves"
    assert lesson["plan"] == {
        "objectives": [lines, "Say more.", "Ask why."],
        "sections": ["One thing", "Two", "The basics of photosynthesis"],
    }


async def test_a_section_that_cannot_be_explained_is_left_out_of_the_plan_too() -> None:
    def write(kind: Kind, number: int) -> str:
        if kind == "section" and number:
            return json.dumps({"text": TEXTS[0]})
        return write_well(kind, number)

    lesson = lesson_of(await teach(LessonModel(write=write)))

    assert [one["text"] for one in lesson["explanation"]] == [TEXTS[0]]
    assert lesson["plan"]["sections"] == PLAN["headings"][:1]


@pytest.mark.parametrize(
    ("kind", "failed"), [("plan", ["plan"]), ("exercise", ["exercises"]), ("section", None)]
)
async def test_a_step_that_fails_leaves_a_whole_lesson_or_an_error(
    kind: Kind, failed: list[str] | None
) -> None:
    broken = EngineFailedError("The engine has failed.")
    model = LessonModel(
        write=lambda asked, number: broken if asked == kind else write_well(asked, number)
    )

    if failed is None:
        with pytest.raises(EngineFailedError):
            await teach(model)
        return
    outcome = await teach(model)

    assert [one.step for one in outcome.failed] == failed
    assert outcome.is_partial
    lesson = lesson_of(outcome)
    if kind == "plan":
        assert lesson["title"] == "Lesson: photosynthesis"
    else:
        assert [one["kind"] for one in lesson["exercises"]] == ["gap"] * 3


async def test_a_lesson_names_the_model_that_wrote_it_and_not_one_that_failed() -> None:
    model = LessonModel()

    def write(kind: Kind, number: int) -> str | Exception:
        if kind == "exercise":
            # From here on another model is the one that is chosen.
            model.router = Router({"other": ()}, "other")
            return EngineFailedError("The engine has failed.")
        return write_well(kind, number)

    model.write = write

    outcome = await teach(model)

    assert outcome.is_partial
    assert outcome.values[ANSWER].model == "small"


async def test_exercises_that_were_accepted_before_the_failure_stay() -> None:
    def write(kind: Kind, number: int) -> str | Exception:
        if kind == "exercise" and number >= 4:
            return EngineFailedError("The engine has failed.")
        return write_well(kind, number)

    outcome = await teach(LessonModel(write=write), make_call("Teach me botany with six tasks."))

    kinds = [one["kind"] for one in lesson_of(outcome)["exercises"]]
    assert kinds == ["question"] * 4 + ["gap"] * 2
    assert outcome.is_partial


def test_when_the_time_is_over_the_lesson_is_told_with_the_exercises_that_it_has() -> None:
    def write(kind: Kind, number: int) -> str | None:
        return None if kind == "exercise" and number >= 4 else write_well(kind, number)

    model = LessonModel(write=write)

    async def run() -> Outcome:
        return await teach_by_loop(model, make_call("Botany, six tasks.", timeout_s=100))

    outcome = run_in_virtual_time(run())

    [failed] = outcome.failed
    assert (failed.step, type(failed.error)) == ("exercises", DeadlineError)
    assert len(lesson_of(outcome)["exercises"]) == 6
    assert model.num_open == 0


def test_when_the_time_is_over_before_there_is_an_explanation_there_is_no_lesson() -> None:
    model = LessonModel(
        write=lambda kind, number: None if kind == "section" else write_well(kind, number)
    )

    async def run() -> Outcome:
        return await teach_by_loop(model, make_call(timeout_s=100))

    with pytest.raises(DeadlineError, match="after 100 s"):
        run_in_virtual_time(run())
    assert model.num_open == 0


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_a_call_that_could_cut_a_piece_is_refused_with_the_least(language: str) -> None:
    query = QUERY if language == "en" else "讲一讲浮力"
    least = max(piece.max_tokens for piece in SHAPES[language].all)  # type: ignore[index]
    model = LessonModel()

    with pytest.raises(InvalidValueError, match=f"may take {least} tokens") as refused:
        await teach(model, make_call(query, options=GenerationOptions(max_tokens=least - 1)))

    assert refused.value.param == "max_tokens"
    assert model.requests == []


async def test_the_calls_options_are_kept_but_for_those_that_would_cut_a_piece() -> None:
    model = LessonModel()
    asked = GenerationOptions(
        max_tokens=4000, temperature=0.3, top_p=0.5, stop=("a",), presence_penalty=0.5, seed=3
    )

    await teach(model, make_call(options=asked))

    for request in model.requests:
        options = request.options
        assert (options.temperature, options.top_p) == (0.3, 0.5)
        assert (options.presence_penalty, options.stop) == (0.5, ())
        assert options.max_tokens in {piece.max_tokens for piece in SHAPES["en"].all}


async def test_a_greedy_call_is_the_same_each_time() -> None:
    seeds = []
    for _ in range(2):
        model = LessonModel()
        await teach(model, make_call(options=GenerationOptions(temperature=0)))
        seeds.append([request.options.seed for request in model.requests])

    assert seeds[0] == seeds[1]
    assert None not in seeds[0]


async def test_instructions_and_what_was_asked_before_are_shown() -> None:
    model = LessonModel()
    earlier = (
        Message(role="system", content="Answer by this book."),
        Message(role="user", content="Teach me about leaves."),
        Message(role="assistant", content="{...}"),
    )

    await teach(model, make_call("Harder, please.", earlier=earlier))

    for request in model.requests:
        assert isinstance(request.prompt, ChatPrompt)
        assert request.prompt.messages[0].content == "Answer by this book."
    [prompt] = model.prompts_for("plan")
    assert "Teach me about leaves." in prompt
    assert "{...}" not in prompt


async def test_a_model_that_thinks_first_gets_room_for_it() -> None:
    class Thinker(LessonModel):
        def _script_for(self, request: Any) -> Any:
            script = super()._script_for(request)
            is_first = self.asked["section"] == 0 and self.asked["plan"] == 1
            return [*think("Hm."), *say("", reason=FinishReason.LENGTH)] if is_first else script

    model = Thinker()

    lesson_of(await teach(model))

    first, second = model.requests_for("plan")
    assert first.options.max_tokens is not None
    assert second.options.max_tokens is not None
    assert second.options.max_tokens >= first.options.max_tokens + 4096
