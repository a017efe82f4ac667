"""Answers from pages that are not sure: asked again from other pages, or told as not known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import SearchError
from mm_orch.search.page import Found
from mm_orch.workflows.contract import CONFIDENCE, SOURCES
from mm_orch.workflows.doubt import DoubtSettings
from mm_orch.workflows.part_research import _share_of_time, reword
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.search_scene import (
    ANSWERING,
    HEIGHT,
    HIGHER,
    JOIN,
    JOINED,
    ORR,
    ORR_HEIGHT,
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
    from collections.abc import Sequence

    from mm_orch.search.page import Hit
    from mm_orch.workflows.graph_runner import Outcome

GOATS = "Goats live on Mount Orr."
VAGUE = (page_hit("goats", GOATS), page_hit("sheep", "Sheep live on Mount Orr."))
TELLING = page_hit("orr", ORR_HEIGHT)
CHINESE = "\u5965\u5c14\u5c71\u6709\u591a\u9ad8"
REWORDED = "high Mount Orr"
AGAIN = DoubtSettings(ask_again_below=0.4)
UNKNOWN = DoubtSettings(unknown_below=0.4)
FIRST = "Part 2 was 0.33 sure, below 0.40, and asked again from other pages:"


@dataclass
class TwoMountains(Provider):
    """Of one mountain it finds the height at once, of the other other things first.

    Attributes:
        more: found of it besides.
        failure_again: of the search in other words.
    """

    more: Sequence[Hit] = (TELLING,)
    failure_again: Exception | None = None

    async def search(self, query: str, *, limit: int) -> Found:
        self.queries.append(query)
        if query == REWORDED and self.failure_again is not None:
            raise self.failure_again
        hits = (page_hit("vell", HEIGHT),) if "Vell" in query else (*VAGUE, *self.more)
        return Found(hits=hits[:limit])


async def ask(
    doubt: DoubtSettings,
    provider: Provider,
    *,
    name: str = "self_ask_search_qa",
    joined: str = JOINED,
    **call: object,
) -> tuple[Outcome, Model]:
    model = Model(said={ANSWERING: answer_part, JOIN: joined})
    workflows = make_workflows(
        model,
        no_sessions(),
        WorkflowSettings(doubt=doubt),
        search=make_search(provider),
    )
    outcome, _ = await play(workflows, name, make_call(**{"question": HIGHER, **call}))
    return outcome, model


def remarks_of(outcome: Outcome) -> list[tuple[str, str]]:
    return [(one.step, one.text) for one in outcome.remarks]


async def test_a_part_that_is_not_sure_is_asked_again_from_other_pages() -> None:
    provider = TwoMountains()

    outcome, model = await ask(AGAIN, provider)

    assert sorted(provider.queries) == sorted([VELL, ORR, REWORDED])
    assert f"- {ORR} {ORR_HEIGHT} [2]" in text_of(outcome)
    assert remarks_of(outcome) == [("parts", f"{FIRST} 1.00 now.")]
    assert outcome.values[CONFIDENCE] == 1.0
    assert not outcome.is_partial
    # Three pages in the first round, and the one that had not been read.
    assert model.kinds.count(SUMMARY) == 4
    assert model.kinds.count(ANSWERING) == 3


async def test_where_nothing_is_surer_the_first_answer_stays_and_once_is_enough() -> None:
    provider = TwoMountains(more=(page_hit("hens", "Hens live on Mount Orr."),))

    outcome, _ = await ask(AGAIN, provider)

    assert provider.queries.count(REWORDED) == 1
    assert f'- {ORR} "{GOATS}" [2]' in text_of(outcome)
    assert remarks_of(outcome) == [("parts", f"{FIRST} no answer was surer.")]


@pytest.mark.parametrize(
    "provider",
    [TwoMountains(more=()), TwoMountains(failure_again=SearchError("It is down."))],
    ids=["no other pages", "a failing search"],
)
async def test_without_other_pages_the_first_answer_stays_and_lacks_nothing(
    provider: Provider,
) -> None:
    outcome, model = await ask(AGAIN, provider)

    assert f'- {ORR} "{GOATS}" [2]' in text_of(outcome)
    assert remarks_of(outcome) == []
    assert failures(outcome) == []
    assert model.kinds.count(ANSWERING) == 2


async def test_what_is_sure_or_where_nobody_minds_is_not_asked_again() -> None:
    for doubt in (DoubtSettings(), DoubtSettings(ask_again_below=0.3)):
        provider = TwoMountains()

        outcome, _ = await ask(doubt, provider)

        assert sorted(provider.queries) == sorted([VELL, ORR])
        assert remarks_of(outcome) == []


async def test_a_part_that_is_not_known_says_so_with_what_was_found_and_is_not_joined() -> None:
    outcome, model = await ask(UNKNOWN, TwoMountains(more=()))

    told = f'- {ORR} I don\'t know. What was found: "{GOATS}" [2]'
    assert told in text_of(outcome)
    assert text_of(outcome).startswith(f"- {VELL} {HEIGHT} [1]")
    assert JOIN not in model.kinds
    # The whole is sure enough: of the mean of both.
    assert remarks_of(outcome) == []


async def test_an_answer_none_of_whose_parts_is_known_begins_with_that() -> None:
    outcome, _ = await ask(DoubtSettings(unknown_below=0.9), TwoMountains(more=()))

    assert text_of(outcome).startswith(f"I don't know. - {VELL} {HEIGHT} [1]\n- {ORR} I don't")
    told = "The answer is 0.67 sure, below 0.90: it says that it does not know."
    assert remarks_of(outcome) == [("tell", told)]


async def test_a_question_with_one_part_says_it_once() -> None:
    outcome, _ = await ask(UNKNOWN, TwoMountains(more=()), question=ORR)

    assert text_of(outcome).startswith(f'I don\'t know. What was found: "{GOATS}" [1]')
    assert text_of(outcome).count("I don't know") == 1


@pytest.mark.parametrize("name", ["search_qa", "self_ask_search_qa"])
async def test_where_nothing_was_found_it_says_that_it_does_not_know(name: str) -> None:
    outcome, _ = await ask(UNKNOWN, Provider({"": ()}), name=name, question=ORR)

    assert text_of(outcome) == "I don't know. Nothing was found about this."
    assert outcome.values[CONFIDENCE] == 0


async def test_a_search_that_is_not_sure_says_so_behind_what_it_has_told() -> None:
    outcome, _ = await ask(UNKNOWN, TwoMountains(more=()), name="search_qa", question=ORR)

    assert text_of(outcome).startswith(
        f'"{GOATS}" [1]\n\nI don\'t know whether that answers it: it is what was found.\n\nSources:'
    )
    told = "The answer is 0.33 sure, below 0.40: it says that it does not know."
    assert remarks_of(outcome) == [("answer", told)]
    assert len(outcome.values[SOURCES]) == 1


async def test_it_is_said_in_the_language_of_the_question() -> None:
    outcome, _ = await ask(UNKNOWN, Provider({"": ()}), name="search_qa", question=CHINESE)

    assert text_of(outcome).startswith("我不知道。")


@pytest.mark.parametrize(
    ("part", "whole", "reworded"),
    [
        (ORR, HIGHER, REWORDED),
        # A part without a name gets those of the whole.
        ("How high is it?", HIGHER, "high Mount Vell Orr"),
        ("What is love?", "What is love?", "love"),
        ("How?", "Why?", ""),
    ],
)
def test_a_part_is_reworded_as_what_it_is_about(part: str, whole: str, reworded: str) -> None:
    assert reword(part, whole) == reworded


def test_asking_again_has_half_of_the_time_that_is_left() -> None:
    left_s = iter([10.0, 7.0, 4.0])

    find_rest_s = _share_of_time(lambda: next(left_s))

    assert [find_rest_s(), find_rest_s()] == [2.0, 0.0]
    assert _share_of_time(lambda: None)() is None


async def test_asking_again_that_takes_too_long_leaves_the_first_answer() -> None:
    class Slow(TwoMountains):
        async def search(self, query: str, *, limit: int) -> Found:
            if query == REWORDED:
                await asyncio.Event().wait()
            return await super().search(query, limit=limit)

    outcome, _ = await ask(AGAIN, Slow(), timeout_s=4)

    assert f'- {ORR} "{GOATS}" [2]' in text_of(outcome)
    assert not outcome.is_partial
