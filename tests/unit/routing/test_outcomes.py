"""What past outcomes change about a choice, and what they must not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.mind_report import OutcomeStatistics
from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.outcomes import LEAST_TRUST, trust, weigh_outcomes
from mm_orch.routing.route import WORKFLOWS, RouteContext
from mm_orch.routing.weighing import Weighing
from mm_orch.routing.workflow_router import WorkflowRouter

NOTHING = RouteContext()
ROUTER = load_workflow_router()
# Of three sources, none named: the learned router is not sure.
OPEN_QUERY = "Which of the last two prime ministers of Norway is more popular?"


def past(
    num_good: float = 0, num_bad: float = 0, *, feedback: float | None = None
) -> OutcomeStatistics:
    weight = num_good + num_bad
    return OutcomeStatistics(
        num_outcomes=math.ceil(weight),
        weight=weight,
        success_ratio=num_good / weight if weight else 0.0,
        latency_s=None,
        num_tokens=None,
        confidence=None,
        feedback=feedback,
    )


counts = st.floats(0, 1e6)
feedbacks = st.none() | st.floats(-1, 1)
shares = st.fixed_dictionaries({name: st.floats(0, 1) for name in "abc"})
pasts = st.dictionaries(st.sampled_from("abc"), st.builds(past, counts, counts, feedback=feedbacks))


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (None, 1.0),
        (past(), 1.0),
        (past(100), 1.0),
        (past(0, 10), 0.75),
        (past(10, 10), 0.5 + 0.5 * 20 / 30),
        (past(10, 0, feedback=-1.0), 0.5 + 0.5 * 15 / 20),
        (past(10, 0, feedback=1.0), 1.0),
    ],
)
def test_trust_is_the_smoothed_share_of_good_outcomes(
    outcomes: OutcomeStatistics | None, expected: float
) -> None:
    assert trust(outcomes) == pytest.approx(expected)


@given(counts, counts, st.floats(0.1, 1e6), feedbacks)
def test_a_failure_never_raises_trust_and_a_success_never_lowers_it(
    num_good: float, num_bad: float, more: float, feedback: float | None
) -> None:
    before = trust(past(num_good, num_bad, feedback=feedback))

    assert LEAST_TRUST <= before <= 1.0
    assert trust(past(num_good, num_bad + more, feedback=feedback)) <= before + 1e-12
    if feedback is None or feedback >= 0:
        assert trust(past(num_good + more, num_bad, feedback=feedback)) >= before - 1e-12


@given(shares, pasts, st.sampled_from("abc"), st.floats(0.1, 1e6))
def test_more_failures_never_raise_a_share_and_change_it_within_bounds(
    share_by_name: dict[str, float],
    past_by_name: dict[str, OutcomeStatistics],
    name: str,
    more: float,
) -> None:
    known = past_by_name.get(name, past())
    num_good = known.weight * known.success_ratio
    worse = past(num_good, known.weight - num_good + more, feedback=known.feedback)

    before = weigh_outcomes(share_by_name, past_by_name)
    after = weigh_outcomes(share_by_name, {**past_by_name, name: worse})

    assert after[name] <= before[name] + 1e-9
    assert sum(after.values()) == pytest.approx(sum(share_by_name.values()))
    for one, share in share_by_name.items():
        # A quotient of two numbers that are each within LEAST_TRUST and 1.
        assert share * LEAST_TRUST - 1e-9 <= after[one] <= share / LEAST_TRUST + 1e-9


def test_without_outcomes_the_choice_is_what_it_was() -> None:
    for query in (OPEN_QUERY, "Quiz me on European capitals.", "zxqv"):
        assert ROUTER.choose(
            query, NOTHING, weighing=Weighing(past_by_workflow={})
        ) == ROUTER.choose(query, NOTHING)


def test_a_workflow_that_fails_loses_what_only_the_wording_gave_it() -> None:
    router = WorkflowRouter(ROUTER.learned, None)
    before = router.choose(OPEN_QUERY, NOTHING)
    failing: dict[str, OutcomeStatistics] = {before.workflow: past(0, 1000)}

    after = router.choose(OPEN_QUERY, NOTHING, weighing=Weighing(past_by_workflow=failing))

    share_by_name = {one.workflow: one.score for one in after.alternatives}
    assert share_by_name[before.workflow] < before.confidence
    # The same state, the same choice.
    assert router.choose(OPEN_QUERY, NOTHING, weighing=Weighing(past_by_workflow=failing)) == after


@pytest.mark.parametrize("router", [ROUTER, WorkflowRouter(None, ROUTER.rules)])
def test_what_a_query_says_in_so_many_words_stands_whatever_the_past(
    router: WorkflowRouter,
) -> None:
    query = "Look it up on the web and give me links, please."
    told: dict[str, OutcomeStatistics] = {name: past(1e6) for name in WORKFLOWS}
    told["search_qa"] = past(0, 1e6)

    route = router.choose(query, NOTHING, weighing=Weighing(past_by_workflow=told))

    assert route == router.choose(query, NOTHING)
    assert route.workflow == "search_qa"
