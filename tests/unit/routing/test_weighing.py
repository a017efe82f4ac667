"""What goals, outcomes and learned biases change about the choice of a workflow, and what not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.consciousness.goals import Goals
from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.route import WORKFLOWS, RouteContext, Workflow
from mm_orch.routing.weighing import CLEAR_LEAD, Weighing

NOTHING = RouteContext()
# The learned router finds it a little likelier to be one for the web.
NEARLY_PLAIN = "Tell me about the Battle of Hastings and its dates"
SAYS_SO = "Look it up on the web and give me links, please."

QUALITY_ALONE = Goals(quality=1, latency=0, cost=0)
THRIFTY = Goals(quality=0, latency=0, cost=1)
HURRIED = Goals(quality=0.1, latency=1, cost=0)

ratios = st.floats(0, 1)
goals = st.builds(lambda q, r: Goals(quality=q, latency=r, cost=1 - r), ratios, ratios)
beliefs = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(
    lambda some: {one: share / sum(some) for one, share in zip(WORKFLOWS, some, strict=True)}
)


def near(cheap: float, dear: float) -> dict[Workflow, float]:
    return {"self_ask_search_qa": dear, "search_qa": 1 - cheap - dear, "chat_generate": cheap}


@given(beliefs, goals)
def test_a_clear_lead_is_never_overturned(
    belief_by_workflow: dict[Workflow, float], goals: Goals
) -> None:
    chosen = Weighing(goals=goals).choose(belief_by_workflow, said=None).chosen

    assert belief_by_workflow[chosen] > max(belief_by_workflow.values()) - CLEAR_LEAD


@given(beliefs)
def test_the_goal_quality_alone_takes_the_likeliest(
    belief_by_workflow: dict[Workflow, float],
) -> None:
    weighed = Weighing(goals=QUALITY_ALONE).choose(belief_by_workflow, said=None)

    assert belief_by_workflow[weighed.chosen] == max(belief_by_workflow.values())
    assert not weighed.note


@pytest.mark.parametrize(
    ("goals", "lead", "chosen"),
    [
        # By default three calls more have to be likelier by 0.03.
        (Goals(), 0.02, "chat_generate"),
        (Goals(), 0.04, "self_ask_search_qa"),
        (QUALITY_ALONE, 0.02, "self_ask_search_qa"),
        (THRIFTY, 0.09, "chat_generate"),
        (HURRIED, 0.09, "chat_generate"),
        (THRIFTY, 0.11, "self_ask_search_qa"),
        (HURRIED, 0.11, "self_ask_search_qa"),
    ],
)
def test_of_near_equals_the_goals_decide(goals: Goals, lead: float, chosen: str) -> None:
    weighed = Weighing(goals=goals).choose(near(0.44, 0.44 + lead), said=None)

    assert weighed.chosen == chosen
    assert ("the goals latency and cost" in weighed.note) == (chosen == "chat_generate")


def test_the_router_says_that_the_goals_have_turned_its_choice() -> None:
    router = load_workflow_router()

    plain = router.choose(NEARLY_PLAIN, NOTHING)
    turned = router.choose(NEARLY_PLAIN, NOTHING, weighing=Weighing(goals=THRIFTY))

    assert (plain.workflow, turned.workflow) == ("search_qa", "chat_generate")
    assert turned.confidence < plain.confidence < turned.confidence + CLEAR_LEAD
    assert "goals" not in plain.reason
    assert turned.reason.endswith(
        "but takes 2 calls of a model or more, and chat_generate 1: the goals latency and cost"
        " weigh more."
    )


@given(beliefs, st.dictionaries(st.sampled_from(WORKFLOWS), st.floats(-1, 1)))
def test_biases_keep_the_sum_and_move_each_score_as_they_say(
    belief_by_workflow: dict[Workflow, float], bias_by_workflow: dict[str, float]
) -> None:
    weighing = Weighing(bias_by_workflow=bias_by_workflow)
    scores = weighing.choose(belief_by_workflow, said=None).score_by_workflow

    assert sum(scores.values()) == pytest.approx(sum(belief_by_workflow.values()))
    for one in WORKFLOWS:
        for other in WORKFLOWS:
            if bias_by_workflow.get(one, 0.0) >= bias_by_workflow.get(other, 0.0):
                before = belief_by_workflow[one] / belief_by_workflow[other]
                assert scores[one] / scores[other] >= before - 1e-9 * before


def test_a_choice_that_biases_turn_says_so() -> None:
    weighed = Weighing(bias_by_workflow={"search_qa": 0.5}).choose(
        {"search_qa": 0.45, "chat_generate": 0.55}, said=None
    )

    assert weighed.chosen == "search_qa"
    assert weighed.note == "How earlier answers did speaks for search_qa over chat_generate."


def test_what_a_query_says_in_so_many_words_stands_whatever_was_learned() -> None:
    router = load_workflow_router()
    against = Weighing(bias_by_workflow={"search_qa": -1.0, "chat_generate": 1.0})

    assert router.choose(SAYS_SO, NOTHING, weighing=against) == router.choose(SAYS_SO, NOTHING)
