"""Nothing but noise: whatever is tried is put back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.tuning.decisions import DecisionKind
from mm_orch.tuning.evidence import Effect, compare
from mm_orch.tuning.knobs import KNOBS
from mm_orch.tuning.readings import Reading
from tests.tuning_simulation import make_policy, make_setting


def noisy_reading(dice: random.Random, noise: float) -> Reading:
    return Reading(
        span_s=15.0,
        num_arrived=150,
        num_succeeded=100,
        num_rejected=50,
        tokens_per_s=500 * dice.gauss(1, noise),
        latency_p50_s=1.5 * dice.gauss(1, noise),
        latency_p95_s=2.0 * dice.gauss(1, noise),
        ttft_p95_s=1.0,
        queue_wait_p95_s=0.5,
        service_p95_s=1.5,
        num_waiting=8.0,
        num_running=30.0,
        batch_size_mean=30.0,
        busy_ratio=0.99,
        step_s=0.03,
    )


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.15])
@pytest.mark.parametrize("seed", range(5))
def test_under_noise_alone_everything_that_is_tried_is_rolled_back(noise: float, seed: int) -> None:
    policy = make_policy(target_s=None)
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    start = make_setting()
    setting, kinds = dict(start), []

    for _ in range(240):
        for decision in policy.take(
            noisy_reading(dice, noise), setting, tunable=frozenset(KNOBS), min_batch_size=1
        ):
            setting.update(decision.changes)
            kinds.append(decision.kind)

    assert DecisionKind.KEEP not in kinds
    tried = kinds.count(DecisionKind.TRY)
    assert tried > 3
    assert kinds.count(DecisionKind.ROLL_BACK) in {tried, tried - 1}
    assert DecisionKind.REST in kinds


@pytest.mark.parametrize("noise", [0.02, 0.05])
@pytest.mark.parametrize("seed", range(10))
def test_a_leap_that_gains_nothing_is_taken_back(noise: float, seed: int) -> None:
    policy = make_policy(target_s=10.0)
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    start = make_setting(batch_size=32, queue_capacity=8)
    setting, decided = dict(start), []

    for _ in range(240):
        for decision in policy.take(
            noisy_reading(dice, noise), setting, tunable=frozenset(KNOBS), min_batch_size=1
        ):
            setting.update(decision.changes)
            decided.append(decision)

    assert any("no great gain" in one.rationale for one in decided)
    assert not any(
        one.kind is DecisionKind.KEEP and one.parameter == "max_batch_size" for one in decided
    )


def test_backing_off_tries_less_and_less() -> None:
    policy = make_policy(target_s=None)
    dice = random.Random(1)  # noqa: S311 - reproducible on purpose
    setting, tried_at = make_setting(), []
    for index in range(600):
        for decision in policy.take(
            noisy_reading(dice, 0.03), setting, tunable=frozenset(KNOBS), min_batch_size=1
        ):
            setting.update(decision.changes)
            if decision.kind is DecisionKind.TRY:
                tried_at.append(index)

    early = sum(index < 200 for index in tried_at)
    late = sum(index >= 400 for index in tried_at)
    assert late < early


@given(
    st.lists(st.floats(90, 110), min_size=3, max_size=8),
    st.lists(st.floats(90, 110), min_size=2, max_size=8),
)
def test_swapping_before_and_after_never_makes_both_better(
    before: list[float], after: list[float]
) -> None:
    there, back = compare(before, after), compare(after, before)

    assert not (there.effect is Effect.BETTER and back.effect is Effect.BETTER)
    assert (there.change_ratio > 0) == (back.change_ratio < 0)


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        ([100, 101, 99], [150, 151], Effect.BETTER),
        ([100, 101, 99], [50, 51], Effect.WORSE),
        ([100, 101, 99], [100, 101], Effect.NONE),
        ([100, 140, 60], [150, 120], Effect.UNCLEAR),
        # Above noise, but too little to care for.
        ([100.0, 100.1, 99.9] * 3, [101.0, 101.1] * 4, Effect.NONE),
        # One window before and one after have no spread to compare with.
        ([100], [200], Effect.UNCLEAR),
    ],
)
def test_an_effect_counts_where_noise_does_not_explain_it(
    before: list[float], after: list[float], effect: Effect
) -> None:
    assert compare(before, after).effect is effect
