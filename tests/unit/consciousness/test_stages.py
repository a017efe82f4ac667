"""Which workflows a stage allows, and what leads to the next."""

from __future__ import annotations

import pytest

from mm_orch.consciousness.stages import (
    Development,
    StageRules,
    after_run,
    describe_rule,
    find_lower_bound,
    find_stage_of,
    is_allowed,
)

RULES = StageRules(
    workflows_by_stage=(("chat",), ("rag",), ("*",)), min_successes=20, min_success_ratio=0.8
)


def after(*successes: bool) -> Development:
    development = Development()
    for is_success in successes:
        development = after_run(development, is_success=is_success, rules=RULES)
    return development


@pytest.mark.parametrize(
    ("workflow", "stage", "expected"),
    [
        ("chat", 0, True),
        ("rag", 0, False),
        ("rag", 1, True),
        ("chat", 1, True),
        ("plug_in", 1, False),
        ("plug_in", 2, True),
    ],
)
def test_a_stage_allows_its_workflows_and_those_before(
    workflow: str, stage: int, *, expected: bool
) -> None:
    assert is_allowed(workflow, stage, RULES) is expected


def test_the_stage_of_a_workflow_is_the_first_that_allows_it() -> None:
    few = StageRules(workflows_by_stage=(("chat",),), min_successes=1, min_success_ratio=0)

    assert [find_stage_of(name, RULES) for name in ("chat", "rag", "any")] == [0, 1, 2]
    assert find_stage_of("any", few) is None


@pytest.mark.parametrize(
    ("num_successes", "num_runs", "expected"),
    # As statsmodels' proportion_confint(method="wilson") has them.
    [(0, 0, 0.0), (20, 20, 0.8389), (19, 20, 0.7639), (50, 100, 0.4038), (0, 10, 0.0)],
)
def test_the_lower_bound_is_wilsons(num_successes: int, num_runs: int, expected: float) -> None:
    assert find_lower_bound(num_successes, num_runs) == pytest.approx(expected, abs=1e-4)


def test_enough_success_leads_to_the_next_stage_and_counts_anew() -> None:
    assert after(*[True] * 19) == Development(stage=0, num_runs=19, num_successes=19)
    assert after(*[True] * 20) == Development(stage=1)


def test_many_successes_are_not_enough_among_as_many_failures() -> None:
    assert after(*[True, False] * 100).stage == 0


def test_the_last_stage_is_not_left() -> None:
    development = after(*[True] * 100)

    assert development == Development(stage=2, num_runs=60, num_successes=60)


def test_the_rule_is_told_with_how_far_it_is() -> None:
    told = describe_rule(Development(num_runs=10, num_successes=9), RULES)

    assert "20 successful runs" in told
    assert "9 of 10" in told
    assert "0.60" in told
