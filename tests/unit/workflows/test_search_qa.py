"""Answers from pages: what is told and cited, each step failing in turn, deadlines, ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    EngineFailedError,
    InvalidValueError,
    ModelUnavailableError,
    SearchError,
)
from mm_orch.core.generation import Message
from mm_orch.search.page import Hit
from mm_orch.workflows.contract import ANSWER, CONFIDENCE, KEPT, SOURCES
from mm_orch.workflows.graph_progress import AnswerPiece, StepEnded, StepStarted
from tests.unit.api.scripted_generator import HOLD, say
from tests.unit.storage.scene import OWNER, open_store, texts_of
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.search_scene import (
    ANSWERING,
    CLIMBED,
    HEIGHT,
    HITS,
    NO_TEXT,
    QUESTION,
    SUMMARY,
    Fetcher,
    Model,
    Provider,
    failures,
    make_call,
    make_search,
    no_sessions,
    page_hit,
    play,
    text_of,
)
from tests.unit.workflows.test_chat_generate import going_on

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.workflows.graph_runner import Outcome

QUOTED = f'"{HEIGHT}" [1]'
FAR = Hit(url="https://far.example/", title="Far")


async def answer(
    model: Model, provider: Provider | None = None, fetcher: Fetcher | None = None, **call: object
) -> Outcome:
    search = make_search(provider or Provider(), fetcher)
    workflows = make_workflows(model, no_sessions(), search=search)
    outcome, _ = await play(workflows, "search_qa", make_call(**call))
    return outcome


async def test_the_answer_is_what_pages_bear_out_with_its_sources() -> None:
    model = Model(said={ANSWERING: f"{HEIGHT} It is the highest of all. {CLIMBED}"})

    outcome = await answer(model)

    assert text_of(outcome) == (
        f"{HEIGHT} [1] {CLIMBED} [2]\n\nSources:\n"
        "[1] Mount Vell, https://a.example/one (as of 2026-11-27)\n"
        "[2] Mount Vell, https://a.example/two (as of 2026-11-27)"
    )
    assert [one.content for one in outcome.values[SOURCES]] == [HEIGHT, CLIMBED]
    assert outcome.values[SOURCES][0].metadata == {
        "number": 1,
        "url": "https://a.example/one",
        "title": "Mount Vell",
        "fetched_at": "2026-11-27T00:00:00+00:00",
    }
    assert 0.4 < outcome.values[CONFIDENCE] < 0.8
    assert not outcome.is_partial
    assert outcome.values[ANSWER].model == "small"


async def test_each_page_is_summed_up_and_the_answer_goes_by_what_is_borne_out_of_it() -> None:
    model = Model(said={SUMMARY: f"{HEIGHT} It is in Peru.", ANSWERING: HEIGHT})

    await answer(model)

    assert model.kinds == [SUMMARY, SUMMARY, ANSWERING]
    [prompt] = model.prompts(ANSWERING)
    shown = prompt.messages[-1].content
    assert shown.startswith(f"[1] Mount Vell: {HEIGHT}\n[2] Mount Vell: ")
    assert "Peru" not in shown
    assert shown.endswith(f"Question: {QUESTION}")


async def test_sentences_are_told_before_the_model_has_ended() -> None:
    model = Model(said={ANSWERING: [*say(HEIGHT, " And")[:2], HOLD]})
    workflows = make_workflows(model, no_sessions(), search=make_search(Provider()))

    async with workflows.open("search_qa", make_call()) as run:
        async for event in run:
            if isinstance(event, AnswerPiece):
                assert event.text == f"{HEIGHT} [1]"
                break

    assert model.num_open == 0


async def test_the_steps_are_told_in_their_order() -> None:
    workflows = make_workflows(
        Model(said={ANSWERING: HEIGHT}), no_sessions(), search=make_search(Provider())
    )

    _, events = await play(workflows, "search_qa", make_call())

    started = [event.step for event in events if isinstance(event, StepStarted)]
    assert started == ["search", "read", "summarise", "answer", "keep"]


async def test_instructions_of_the_caller_come_before_our_own() -> None:
    model = Model(said={ANSWERING: HEIGHT})
    messages = (
        Message(role="system", content="Be kind."),
        Message(role="user", content=QUESTION),
    )

    await answer(model, messages=messages)

    assert model.prompts(ANSWERING)[0].messages[0].content.startswith("Be kind.\n\n")


async def test_where_the_model_says_nothing_that_is_borne_out_the_best_sentence_is_quoted() -> None:
    outcome = await answer(Model(said={ANSWERING: "It is 9 metres high [1]."}))

    assert text_of(outcome).startswith(f"{QUOTED}\n\nSources:")
    assert not outcome.is_partial


async def test_pages_that_do_not_answer_are_not_quoted() -> None:
    hits = [page_hit("other", "Goats eat grass.")]

    outcome = await answer(Model(), Provider({"": hits}), question="Who rules Orr?")

    assert text_of(outcome) == "The pages that were read do not answer this."
    assert outcome.values[CONFIDENCE] == 0
    assert outcome.values[SOURCES] == ()


async def test_where_nothing_is_found_no_model_is_asked() -> None:
    model = Model()

    outcome = await answer(model, Provider({}))

    assert text_of(outcome) == "Nothing was found about this."
    assert model.requests == []
    assert not outcome.is_partial


async def test_without_the_network_the_answer_says_so_and_is_partial() -> None:
    model = Model()
    failure = SearchError("The web cannot be searched: nobody is there.", remedy="Start it.")

    outcome = await answer(model, Provider(failure=failure))

    assert text_of(outcome) == (
        "There is no answer without pages. The web cannot be searched: nobody is there."
    )
    assert failures(outcome) == [("search", failure.message)]
    assert model.requests == []


async def test_a_provider_with_a_fault_of_its_own_leaves_a_partial_result() -> None:
    outcome = await answer(Model(), Provider(failure=KeyError("a fault")))

    assert text_of(outcome) == "There is no answer: pages could not be searched for."
    assert [step for step, _ in failures(outcome)] == ["search"]
    assert outcome.skipped == ("read", "summarise")


async def test_a_page_that_cannot_be_read_gives_its_place_to_the_next() -> None:
    hits = [FAR, HITS[1], NO_TEXT, HITS[0]]

    outcome = await answer(Model(said={ANSWERING: HEIGHT}), Provider({"": hits}))

    assert text_of(outcome).startswith(f"{HEIGHT} [1]")
    assert failures(outcome) == [
        ("read", "https://far.example/ cannot be read: its server answers with 500."),
        ("read", "https://a.example/empty cannot be read: it has no text."),
    ]


async def test_what_a_step_did_without_is_told_when_it_has_ended() -> None:
    search = make_search(Provider({"": [FAR, HITS[0]]}))
    workflows = make_workflows(Model(said={ANSWERING: HEIGHT}), no_sessions(), search=search)

    _, events = await play(workflows, "search_qa", make_call())

    lacking = {event.step: event.lacking for event in events if isinstance(event, StepEnded)}
    assert [str(one) for one in lacking["read"]] == [
        "https://far.example/ cannot be read: its server answers with 500."
    ]
    assert lacking["answer"] == ()


async def test_where_no_page_can_be_read_it_is_said() -> None:
    outcome = await answer(Model(), Provider({"": [FAR, NO_TEXT]}))

    assert text_of(outcome) == "2 pages were found, but none could be read."
    assert outcome.is_partial


async def test_pages_that_are_not_summed_up_are_quoted() -> None:
    broken = EngineFailedError("broken")

    outcome = await answer(Model(said={SUMMARY: [broken], ANSWERING: HEIGHT}))

    assert text_of(outcome).startswith(f"{HEIGHT} [1]")
    assert failures(outcome) == [("summarise", "broken")] * 2


async def test_without_an_answer_of_the_model_a_page_is_quoted() -> None:
    outcome = await answer(Model(said={ANSWERING: [EngineFailedError("broken")]}))

    assert text_of(outcome).startswith(QUOTED)
    assert failures(outcome) == [("answer", "broken")]
    assert 0 < outcome.values[CONFIDENCE] <= 0.5


async def test_an_answer_that_breaks_off_is_kept_as_far_as_it_is_borne_out() -> None:
    script = [*say(f"{HEIGHT} {CLIMBED} And")[:-1], EngineFailedError("broken")]

    outcome = await answer(Model(said={ANSWERING: script}))

    assert text_of(outcome).startswith(f"{HEIGHT} [1] {CLIMBED} [2]\n\n")
    assert failures(outcome) == [("answer", "broken")]


class NoMeters:
    async def find_meter(self, model: str | None) -> object:
        raise ModelUnavailableError(f"{model} is not there.", retry_after_s=1)


async def test_without_a_tokeniser_pages_are_quoted_and_the_answer_goes_on() -> None:
    model = Model(said={ANSWERING: HEIGHT})
    workflows = make_workflows(model, no_sessions(), search=make_search(Provider()))
    workflows._meters = NoMeters()  # type: ignore[assignment]

    outcome, _ = await play(workflows, "search_qa", make_call())

    assert text_of(outcome).startswith(f"{HEIGHT} [1]")
    assert failures(outcome) == [("summarise", "None is not there.")]


async def test_the_callers_own_fault_is_told_as_such() -> None:
    wrong = InvalidValueError("max_tokens is too large", param="max_tokens")

    with pytest.raises(InvalidValueError):
        await answer(Model(said={SUMMARY: [wrong], ANSWERING: [wrong]}))


async def test_the_turn_is_kept_in_the_session(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        workflows = make_workflows(
            Model(said={ANSWERING: HEIGHT}), store, search=make_search(Provider())
        )
        await store.append_turn(OWNER, "s", question="Hi", answer="Hello", is_new=True)
        call = make_call(session=going_on(), owner=OWNER)

        outcome, _ = await play(workflows, "search_qa", call)

        assert outcome.values[KEPT].turn is not None
        assert texts_of(await store.read(OWNER, "s"))[-1] == (QUESTION, text_of(outcome))


async def test_a_search_that_says_nothing_takes_half_of_the_time() -> None:
    outcome = await answer(Model(), Provider(is_silent=True), timeout_s=0.4)

    assert failures(outcome) == [("search", "The search was not complete in time.")]
    assert "not complete in time" in text_of(outcome)


async def test_a_page_that_never_comes_takes_half_of_the_time_and_others_are_used() -> None:
    fetcher = Fetcher(is_silent=True)

    outcome = await answer(
        Model(said={ANSWERING: HEIGHT}), Provider({"": [FAR, HITS[0]]}), fetcher, timeout_s=1
    )

    assert text_of(outcome).startswith(f"{HEIGHT} [1]")
    assert failures(outcome) == [("read", "Some pages were not read in time.")]
    assert fetcher.num_open == 0


async def test_a_summary_that_never_ends_takes_half_of_the_time() -> None:
    model = Model(said={SUMMARY: [HOLD], ANSWERING: HEIGHT})

    outcome = await answer(model, timeout_s=1)

    assert text_of(outcome).startswith(f"{HEIGHT} [1]")
    assert failures(outcome) == [("summarise", "Some pages were not summed up in time.")]
    assert model.num_open == 0


class SilentMeters:
    """Stands for a model that takes too long to be loaded."""

    async def find_meter(self, model: str | None) -> object:  # noqa: ARG002 - as it is asked
        return await asyncio.Event().wait()


async def test_finding_out_what_the_model_can_be_shown_takes_half_of_the_time() -> None:
    model = Model(said={ANSWERING: HEIGHT})
    workflows = make_workflows(model, no_sessions(), search=make_search(Provider()))
    workflows._meters = SilentMeters()  # type: ignore[assignment]

    outcome, _ = await play(workflows, "search_qa", make_call(timeout_s=1))

    assert text_of(outcome).startswith(f"{HEIGHT} [1]")
    assert failures(outcome) == [("summarise", "Some pages were not summed up in time.")]
    assert model.kinds == [ANSWERING]


async def test_a_run_whose_time_is_over_ends_everything() -> None:
    model = Model(said={ANSWERING: [HOLD]})

    with pytest.raises(DeadlineError):
        await answer(model, timeout_s=0.3)

    assert model.num_open == 0


@pytest.mark.parametrize("kind", [SUMMARY, ANSWERING])
async def test_whoever_goes_ends_what_is_generated(kind: str) -> None:
    model = Model(said={kind: [HOLD]})
    workflows = make_workflows(model, no_sessions(), search=make_search(Provider()))

    async with workflows.open("search_qa", make_call()):
        while kind not in model.kinds:
            await asyncio.wait_for(model.has_opened.wait(), 5)
            model.has_opened.clear()

    assert model.num_open == 0


async def test_whoever_goes_ends_what_is_fetched() -> None:
    fetcher = Fetcher(is_silent=True)
    search = make_search(Provider({"": [FAR]}), fetcher)
    workflows = make_workflows(Model(), no_sessions(), search=search)

    async with workflows.open("search_qa", make_call()):
        await fetcher.has_begun.wait()

    assert fetcher.num_open == 0
