"""Questions that are taken apart: what the parts are, what has come of each, and of all."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    EngineFailedError,
    InvalidValueError,
    SearchError,
    UnsupportedError,
)
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.workflows.contract import ANSWER, CONFIDENCE, SOURCES
from mm_orch.workflows.graph_progress import AnswerPiece
from mm_orch.workflows.joined_answer import JoinedAnswer
from mm_orch.workflows.search_prompts import PARTS_SCHEMA
from tests.unit.api.scripted_generator import HOLD, say
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.search_scene import (
    ANSWERING,
    HEIGHT,
    HIGHER,
    JOIN,
    JOINED,
    ORR,
    ORR_HEIGHT,
    PARTS,
    SUMMARY,
    VELL,
    Model,
    Provider,
    answer_part,
    failures,
    make_call,
    make_search,
    no_sessions,
    page_hit,
    play,
    text_of,
)

if TYPE_CHECKING:
    from mm_orch.workflows.graph_runner import Outcome
    from tests.unit.api.scripted_generator import Step
    from tests.unit.workflows.search_scene import Said


def provider() -> Provider:
    return Provider(
        {"Vell?": [page_hit("vell", HEIGHT)], "Orr?": [page_hit("orr", ORR_HEIGHT)], "": ()}
    )


def two_mountains(said: dict[str, Said] | None = None) -> Model:
    """Return a model that answers by the mountain that is asked about."""
    return Model(said={ANSWERING: answer_part, **(said or {})})


async def answer(model: Model, found: Provider | None = None, **call: object) -> Outcome:
    workflows = make_workflows(model, no_sessions(), search=make_search(found or provider()))
    fields: dict[str, object] = {"question": HIGHER, **call}
    outcome, _ = await play(workflows, "self_ask_search_qa", make_call(**fields))
    return outcome


async def test_parts_are_answered_from_pages_and_joined() -> None:
    outcome = await answer(two_mountains({JOIN: JOINED}))

    assert text_of(outcome) == (
        f"{JOINED}\n\n- {VELL} {HEIGHT} [1]\n- {ORR} {ORR_HEIGHT} [2]\n\nSources:\n"
        "[1] Mount Vell, https://a.example/vell (as of 2026-11-27)\n"
        "[2] Mount Vell, https://a.example/orr (as of 2026-11-27)"
    )
    assert len(outcome.values[SOURCES]) == 2
    assert 0 < outcome.values[CONFIDENCE] <= 1
    assert not outcome.is_partial


async def test_the_model_takes_a_question_apart_and_is_kept_to_a_schema() -> None:
    wished = ["What is the height of Mount Vell?", "What is the height of Mount Orr?"]
    found = Provider()
    model = Model(said={PARTS: json.dumps({"questions": wished})})

    await answer(model, found)

    assert sorted(found.queries) == sorted(wished)
    [request] = [
        one for one, kind in zip(model.requests, model.kinds, strict=True) if kind == PARTS
    ]
    assert request.options.guide == JsonSchemaShape(schema=PARTS_SCHEMA)
    assert request.options.temperature == 0


@pytest.mark.parametrize(
    "said",
    [
        json.dumps({"questions": ["What is love?", "What is the question?"]}),
        '{"questions": ["How high is Mo',
        "I would rather not.",
        [UnsupportedError("no schema here")],
    ],
)
async def test_rules_take_it_apart_where_the_model_is_of_no_use(said: str | list[Step]) -> None:
    found = provider()

    outcome = await answer(Model(said={PARTS: said}), found)

    assert sorted(found.queries) == sorted([VELL, ORR])
    assert not outcome.is_partial


async def test_a_model_that_fails_leaves_it_to_the_rules_and_says_so() -> None:
    found = provider()

    outcome = await answer(two_mountains({PARTS: [EngineFailedError("broken")]}), found)

    assert sorted(found.queries) == sorted([VELL, ORR])
    assert failures(outcome) == [("decompose", "broken")]


async def test_a_question_that_nobody_can_take_apart_is_its_own_only_part() -> None:
    model = two_mountains()

    outcome = await answer(model, question=VELL)

    assert text_of(outcome).startswith(f"{HEIGHT} [1]\n\nSources:")
    assert JOIN not in model.kinds


async def test_a_part_that_fails_leaves_a_partial_result_that_says_which() -> None:
    class HalfBlind(Provider):
        async def search(self, query: str, *, limit: int) -> object:  # type: ignore[override]
            if query == ORR:
                raise SearchError("The web is away.")
            return await super().search(query, limit=limit)

    outcome = await answer(two_mountains({JOIN: "Mount Vell is high."}), HalfBlind(provider().hits))

    assert f"- {VELL} {HEIGHT} [1]\n" in text_of(outcome)
    assert f"- {ORR} There is no answer without pages. The web is away." in text_of(outcome)
    assert failures(outcome) == [("parts", f"{ORR} The web is away.")]


@pytest.mark.parametrize("away", [VELL, ORR])
async def test_whichever_part_fails_the_answer_is_of_the_model_that_answered_the_other(
    away: str,
) -> None:
    class HalfBlind(Provider):
        async def search(self, query: str, *, limit: int) -> object:  # type: ignore[override]
            if query == away:
                raise SearchError("The web is away.")
            return await super().search(query, limit=limit)

    outcome = await answer(two_mountains(), HalfBlind(provider().hits))

    assert outcome.values[ANSWER].model == "small"


async def test_parts_without_any_page_leave_nothing_to_join() -> None:
    model = Model()

    outcome = await answer(model, Provider({}))

    nothing = "Nothing was found about this."
    assert text_of(outcome) == f"- {VELL} {nothing}\n- {ORR} {nothing}"
    assert outcome.values[CONFIDENCE] == 0
    assert model.kinds == [PARTS]


async def test_without_the_join_the_parts_are_told() -> None:
    outcome = await answer(two_mountains({JOIN: [EngineFailedError("broken")]}))

    assert text_of(outcome).startswith(f"- {VELL} {HEIGHT} [1]\n- {ORR} {ORR_HEIGHT} [2]\n\n")
    assert failures(outcome) == [("join", "broken")]


async def test_the_joined_answer_is_told_sentence_by_sentence() -> None:
    script = [*say("It was Mara Lind. ", JOINED, " Mount", " Vell")[:4], HOLD]
    model = two_mountains({JOIN: script})
    workflows = make_workflows(model, no_sessions(), search=make_search(provider()))

    async with workflows.open("self_ask_search_qa", make_call(question=HIGHER)) as run:
        async for event in run:
            if isinstance(event, AnswerPiece):
                assert event.text == JOINED
                break

    assert model.num_open == 0


async def test_a_join_that_breaks_off_leaves_what_was_told() -> None:
    script = [*say(JOINED, " Mount Orr")[:2], EngineFailedError("broken")]
    model = two_mountains({JOIN: script})
    workflows = make_workflows(model, no_sessions(), search=make_search(provider()))

    outcome, events = await play(workflows, "self_ask_search_qa", make_call(question=HIGHER))

    assert text_of(outcome).startswith(f"{JOINED}\n\n- {VELL} {HEIGHT} [1]\n")
    told = [event.text for event in events if isinstance(event, AnswerPiece)]
    assert "".join(told) == text_of(outcome)
    assert failures(outcome) == [("join", "broken")]


async def test_without_answers_of_the_model_pages_are_quoted_in_each_part() -> None:
    outcome = await answer(two_mountains({ANSWERING: [EngineFailedError("broken")], JOIN: JOINED}))

    assert f'- {VELL} "{HEIGHT}" [1]' in text_of(outcome)
    assert failures(outcome) == [("parts", f"{VELL} broken"), ("parts", f"{ORR} broken")]


async def test_parts_are_answered_side_by_side() -> None:
    model = two_mountains({SUMMARY: [HOLD]})
    workflows = make_workflows(model, no_sessions(), search=make_search(provider()))

    async with workflows.open("self_ask_search_qa", make_call(question=HIGHER)):
        async with asyncio.timeout(5):
            while model.num_open < 2:
                await model.has_opened.wait()
                model.has_opened.clear()

    assert model.num_open == 0


async def test_a_part_that_never_ends_leaves_the_others_and_the_join_some_time() -> None:
    class HalfSilent(Provider):
        async def search(self, query: str, *, limit: int) -> object:  # type: ignore[override]
            if query == ORR:
                await asyncio.Event().wait()
            return await super().search(query, limit=limit)

    outcome = await answer(two_mountains(), HalfSilent(provider().hits), timeout_s=1)

    assert f"- {VELL} {HEIGHT} [1]" in text_of(outcome)
    assert failures(outcome) == [("parts", f"{ORR} The search was not complete in time.")]


async def test_a_run_whose_time_is_over_ends_everything() -> None:
    model = two_mountains({JOIN: [HOLD]})

    with pytest.raises(DeadlineError):
        await answer(model, timeout_s=0.3)

    assert model.num_open == 0


async def test_the_callers_own_fault_is_told_as_such() -> None:
    wrong = InvalidValueError("max_tokens is too large", param="max_tokens")

    with pytest.raises(InvalidValueError):
        await answer(two_mountains({ANSWERING: [wrong]}))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (JOINED, JOINED),
        ("Mount Vell is higher. Mount Everest is the highest.", "Mount Vell is higher."),
        ("Both mounts have 3,500 metres.", "Both mounts have 3,500 metres."),
        ("Mount Vell is 2,100 metres higher than Mount Orr.", ""),
        ("The answer is yes. Mount Vell is higher.", "Mount Vell is higher."),
        ("It was Mara Lind.", ""),
        ("", ""),
    ],
)
def test_a_joined_answer_may_bring_new_numbers_but_no_new_names(text: str, kept: str) -> None:
    joined = JoinedAnswer(HIGHER, [HEIGHT, ORR_HEIGHT])

    pieces = [joined.tell_complete() for piece in text if joined.hear(piece)]

    assert "".join([*pieces, joined.finish()]) == joined.text == kept
