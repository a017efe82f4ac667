"""Writes a lesson: plans it, explains it section by section, and makes exercises with answers.

What it answers is JSON that is valid under ``lesson_schema.LESSON_SCHEMA``, whatever the model
writes: each piece has a shape and bounds, is looked at, and is drawn again where it cannot be used.

begin       what the query asks for
plan        title, objectives, headings; where the model gives none, plain ones
explain     the sections' texts, side by side
exercises   one by one, a few at a time; those that are accepted stay, whatever happens then
assemble    the JSON; exercises that are missing are made of the explanation's sentences
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import DeadlineError, WorkflowError
from mm_orch.core.generation import FinishReason, Message
from mm_orch.workflows.contract import (
    ANSWER,
    CALL,
    HISTORY,
    INPUTS,
    KEPT,
    SERVICES,
    Workflow,
)
from mm_orch.workflows.deadline import within
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.lesson_checks import (
    find_fault_of_exercise,
    find_fault_of_text,
    keep_sentences,
)
from mm_orch.workflows.lesson_gaps import make_gaps
from mm_orch.workflows.lesson_pieces import PieceWriter, check_room, fill_pieces
from mm_orch.workflows.lesson_plan import LessonPlan, PlanDraft
from mm_orch.workflows.lesson_schema import Exercise, Lesson, Plan, Section, write_lesson
from mm_orch.workflows.lesson_shapes import SHAPES
from mm_orch.workflows.lesson_tasks import (
    write_exercise_task,
    write_plan_task,
    write_section_task,
)
from mm_orch.workflows.lesson_wishes import LessonWishes, read_wishes
from mm_orch.workflows.lesson_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mm_orch.workflows.graph_state import StepContext
    from mm_orch.workflows.lesson_pieces import Fields

# What is left of the time when exercises are given up: the lesson is told with those it has.
_RESERVE_S = 1.0
_RESERVE_SHARE = 0.05
# Each draws its own numbers: one plan, then the sections, then the exercises.
_FIRST_SECTION = 1
_FIRST_EXERCISE = 11
_MAX_EARLIER = 3
_MAX_EARLIER_CHARS = 200

_WISHES = Slot("wishes", LessonWishes)
_PLAN = Slot("plan", LessonPlan)
_EXPLANATION: Slot[tuple[Section, ...]] = Slot("explanation", tuple)
# Filled as exercises are accepted, so that those stay when the step that makes them is cut off.
_ACCEPTED: Slot[list[Exercise]] = Slot("accepted", list)
_NUM_WRITTEN = Slot("num_written", int)


async def begin(context: StepContext) -> None:
    """Read what the query asks for, and refuse a call that leaves too little room."""
    call = context[CALL]
    wishes = read_wishes(call.question)
    check_room(call, SHAPES[wishes.language].all)
    context.put(_WISHES, wishes)
    context.put(_ACCEPTED, [])


async def plan(context: StepContext) -> None:
    """Have the model plan the lesson."""
    call, wishes = context[CALL], context[_WISHES]
    earlier = [
        message.content[:_MAX_EARLIER_CHARS]
        for message in (*context[HISTORY], *call.messages[:-1])
        if message.role == "user"
    ]
    task = write_plan_task(wishes, call.question, earlier[-_MAX_EARLIER:])
    draft = PlanDraft(wishes, call.question)
    writer = _make_writer(context)
    piece = SHAPES[wishes.language].plan
    await fill_pieces(
        [0],
        lambda number, attempt: writer.write(piece, task, number=number, attempt=attempt),
        lambda _, fields: draft.take(fields),
    )
    context.put(_PLAN, draft.finish())


async def explain(context: StepContext) -> None:
    """Have the model explain each heading; one that it cannot is left out.

    Raises:
        WorkflowError: it could explain none.
    """
    wishes = context[_WISHES]
    planned = context.find(_PLAN) or PlanDraft(wishes, "").finish()
    writer = _make_writer(context)
    piece = SHAPES[wishes.language].section
    sections: dict[int, Section] = {}

    def write(number: int, attempt: int) -> Coroutine[Any, Any, Fields | None]:
        known = [one.text for one in sections.values()] if attempt else []
        task = write_section_task(wishes, planned.title, planned.headings[number], known)
        return writer.write(piece, task, number=_FIRST_SECTION + number, attempt=attempt)

    def accept(number: int, fields: Fields) -> bool:
        heading = planned.headings[number]
        section = Section(heading=heading, text=keep_sentences(fields["text"][0], wishes.language))
        fault = find_fault_of_text(
            section.text,
            wishes.language,
            shown=(heading, context[CALL].question, WORDS[wishes.language].example.text),
            others=[one.text for one in sections.values()],
        )
        # Of each, an exercise can be made without the model.
        if fault or not make_gaps([section], wishes.language, num_wanted=1):
            return False
        sections[number] = section
        return True

    await fill_pieces(range(len(planned.headings)), write, accept)
    if not sections:
        raise WorkflowError(
            "The model wrote no explanation that can be used.",
            remedy="Ask again, or ask another model.",
        )
    context.put(_EXPLANATION, tuple(sections[number] for number in sorted(sections)))


async def write_exercises(context: StepContext) -> None:
    """Have the model write exercises about the sections in turn.

    Raises:
        DeadlineError: the time was over before the last one; those that were accepted stay.
    """
    wishes, sections, accepted = context[_WISHES], context[_EXPLANATION], context[_ACCEPTED]
    writer = _make_writer(context)
    piece = SHAPES[wishes.language].exercise
    example = WORDS[wishes.language].example
    shown = (context[CALL].question, *(one.question for one in example.exercises))

    def write(number: int, attempt: int) -> Coroutine[Any, Any, Fields | None]:
        text = sections[number % len(sections)].text
        # Another kind each time the sections begin again, and with each attempt.
        kind = number // len(sections) + number + attempt
        known = [one.question for one in accepted]
        task = write_exercise_task(wishes, text, kind, known)
        return writer.write(piece, task, number=_FIRST_EXERCISE + number, attempt=attempt)

    def accept(number: int, fields: Fields) -> bool:
        [question], [answer] = fields["question"], fields["answer"]
        if piece.reaches_bound("question", question):
            return False
        if piece.reaches_bound("answer", answer):
            answer = keep_sentences(answer, wishes.language)
        fault = find_fault_of_exercise(
            question,
            answer,
            wishes.language,
            shown=(*shown, sections[number % len(sections)].text),
            others=[one.question for one in accepted],
        )
        if not fault:
            accepted.append(Exercise(kind="question", question=question, answer=answer))
        return not fault

    async with within(_without_reserve(context.remaining_s()), _too_slow):
        await fill_pieces(range(wishes.num_exercises), write, accept)
    context.put(_NUM_WRITTEN, len(accepted))


async def assemble(context: StepContext) -> None:
    """Put the lesson together; what exercises it lacks is made of its own sentences."""
    wishes, sections = context[_WISHES], context[_EXPLANATION]
    planned = context.find(_PLAN) or PlanDraft(wishes, "").finish()
    accepted = context[_ACCEPTED]
    gaps = make_gaps(
        sections,
        wishes.language,
        num_wanted=wishes.num_exercises - len(accepted),
        others=[one.question for one in accepted],
    )
    lesson = Lesson(
        title=planned.title,
        language=wishes.language,
        level=wishes.level,
        plan=Plan(
            objectives=planned.objectives,
            sections=tuple(section.heading for section in sections),
        ),
        explanation=sections,
        exercises=(*accepted, *gaps),
    )
    text = write_lesson(lesson)
    # No part of it was cut: the writer of pieces takes none that its bound ended.
    last = context[SERVICES].models.last
    await context.say(text)
    context.put(
        ANSWER,
        GeneratedText(
            text=text,
            model="" if last is None else last.model,
            engine="" if last is None else last.engine,
            finish_reason=FinishReason.STOP,
        ),
    )


def _make_writer(context: StepContext) -> PieceWriter:
    call = context[CALL]
    return PieceWriter(
        context[SERVICES].models,
        call.options,
        context=tuple(Message(role="system", content=one) for one in call.instructions),
        remaining_s=context.remaining_s,
    )


def _without_reserve(left_s: float | None) -> float | None:
    if left_s is None:
        return None
    return max(0.0, left_s - min(_RESERVE_S, _RESERVE_SHARE * left_s))


def _too_slow() -> DeadlineError:
    return DeadlineError("The time was over before the model had written all exercises.")


LESSON_PACK = Workflow(
    summary="Writes a lesson as JSON: a plan, an explanation, and exercises with answers.",
    graph=Graph(
        name="lesson_pack",
        inputs=INPUTS,
        steps=(
            Step(name="begin", run=begin, inputs=(CALL,), outputs=(_WISHES, _ACCEPTED)),
            Step(
                name="plan",
                run=plan,
                inputs=(CALL, HISTORY, SERVICES, _WISHES),
                outputs=(_PLAN,),
                is_optional=True,
            ),
            Step(
                name="explain",
                run=explain,
                inputs=(CALL, SERVICES, _WISHES),
                optional_inputs=(_PLAN,),
                outputs=(_EXPLANATION,),
            ),
            Step(
                name="exercises",
                run=write_exercises,
                inputs=(CALL, SERVICES, _WISHES, _EXPLANATION, _ACCEPTED),
                outputs=(_NUM_WRITTEN,),
                is_optional=True,
            ),
            Step(
                name="assemble",
                run=assemble,
                inputs=(SERVICES, _WISHES, _EXPLANATION, _ACCEPTED),
                optional_inputs=(_PLAN, _NUM_WRITTEN),
                outputs=(ANSWER,),
            ),
            KEEP,
        ),
        answer=ANSWER,
        results=(KEPT,),
    ),
)
