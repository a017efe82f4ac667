from __future__ import annotations

from dataclasses import replace

import pytest

from mm_orch.benchmarking.objective import Objective
from mm_orch.benchmarking.plan import QUICK_PLAN, Plan


@pytest.mark.parametrize(
    ("rate_per_s", "num_arrivals"), [(0.01, 8), (2.0, 40), (3.03, 61), (1000.0, 400)]
)
def test_arrivals_go_on_for_a_time_but_are_neither_few_nor_endless(
    rate_per_s: float, num_arrivals: int
) -> None:
    assert Plan(arrivals_s=20.0).num_arrivals(rate_per_s) == num_arrivals


def test_every_setting_is_stated() -> None:
    plan = replace(QUICK_PLAN, seed=77, objective=Objective(e2e_ms=9))

    assert plan.settings["objective of goodput"] == "whole answer within 9 ms"
    assert plan.settings["clients at once"] == "1, 4, 8"
    assert plan.settings["seed"] == "77"
    assert plan.settings["conversations at once"] == "2 of 4 turns"
    assert plan.settings["arrivals go on for"] == "3 s, 8 to 400 requests"


def test_a_quick_plan_measures_every_kind_with_less() -> None:
    plan = Plan()

    for name in ("levels", "prompt_lengths", "output_lengths", "arrival_shares"):
        assert 0 < len(getattr(QUICK_PLAN, name)) < len(getattr(plan, name))
    assert 0 < QUICK_PLAN.num_conversations < plan.num_conversations
