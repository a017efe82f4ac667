from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.batching.pace import StepPace

FIXED_S, PER_STREAM_S = 0.01, 0.001
# Attending to a thousand keys costs as much as all the rest of a token.
PER_KEY = 0.001


def duration_s(
    num_decoding: int, num_prompt_tokens: int, per_token_s: float, *, num_keys: float = 0.0
) -> float:
    per_token_s *= 1 + num_keys * PER_KEY
    return FIXED_S + num_decoding * PER_STREAM_S + num_prompt_tokens * per_token_s


def taught(per_token_s: float, *, is_adaptive: bool = True, max_keys: int = 1) -> StepPace:
    """Return a pace that has seen 200 steps of mixed work on a machine with these costs."""
    dice = random.Random(1)  # noqa: S311 - reproducible on purpose
    pace = StepPace(2048, is_adaptive=is_adaptive)
    for _ in range(200):
        num_decoding, num_tokens = dice.randint(0, 32), dice.choice([0, 0, 12, 50, 300])
        num_keys = dice.randrange(max_keys)
        pace.observe(
            num_prompt_tokens=num_tokens,
            num_pairs=num_tokens * num_keys,
            num_decoding=num_decoding,
            duration_s=duration_s(num_decoding, num_tokens, per_token_s, num_keys=num_keys),
        )
    return pace


def test_without_running_streams_the_whole_budget_is_used() -> None:
    assert taught(0.001).find_budget(num_prompts=3, num_decoding=0, num_keys=0) == 2048


def test_switched_off_it_never_changes_the_budget() -> None:
    pace = taught(0.001, is_adaptive=False)

    assert pace.find_budget(num_prompts=1, num_decoding=8, num_keys=0) == 2048


@pytest.mark.parametrize("num_decoding", [1, 8, 32])
def test_beside_many_streams_a_step_takes_at_most_half_as_long_again(num_decoding: int) -> None:
    per_token_s = 0.0003
    budget = taught(per_token_s).find_budget(num_prompts=0, num_decoding=num_decoding, num_keys=0)

    alone_s = duration_s(num_decoding, 0, per_token_s)
    assert duration_s(num_decoding, budget, per_token_s) == pytest.approx(1.5 * alone_s, rel=0.05)


@pytest.mark.parametrize("num_keys", [0, 500, 4000])
def test_the_further_a_prompt_has_come_the_fewer_of_its_tokens_are_taken(num_keys: int) -> None:
    # Of prompts seen so far none was longer than a thousand tokens.
    budget = taught(0.0003, max_keys=1000).find_budget(
        num_prompts=0, num_decoding=32, num_keys=num_keys
    )

    mixed_s = duration_s(32, budget, 0.0003, num_keys=num_keys)
    assert mixed_s == pytest.approx(1.5 * duration_s(32, 0, 0.0003), rel=0.08)


def test_a_device_to_which_prompts_cost_little_takes_them_whole() -> None:
    assert taught(0.000001).find_budget(num_prompts=1, num_decoding=8, num_keys=0) == 2048


def test_prompts_always_advance() -> None:
    assert taught(1.0).find_budget(num_prompts=1, num_decoding=8, num_keys=0) == 12


def test_the_more_prompts_wait_for_each_stream_the_more_is_taken_in() -> None:
    pace = taught(0.0003)

    budgets = [pace.find_budget(num_prompts=n, num_decoding=4, num_keys=0) for n in (1, 4, 28)]

    assert budgets == sorted(set(budgets))


def test_what_equal_steps_cannot_tell_apart_stays_as_it_was() -> None:
    pace = taught(0.0003)
    before = pace.find_budget(num_prompts=1, num_decoding=8, num_keys=0)

    for _ in range(500):
        pace.observe(
            num_prompt_tokens=12,
            num_pairs=0,
            num_decoding=8,
            duration_s=duration_s(8, 12, 0.0003),
        )

    assert pace.find_budget(num_prompts=1, num_decoding=8, num_keys=0) == pytest.approx(
        before, rel=0.1
    )


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 64), st.floats(0, 100)), max_size=30
    ),
    limit=st.integers(1, 10_000),
    num_prompts=st.integers(0, 64),
    num_decoding=st.integers(0, 64),
    num_keys=st.integers(0, 100_000),
)
def test_the_budget_is_always_between_one_and_the_limit(
    steps: list[tuple[int, int, float]],
    limit: int,
    num_prompts: int,
    num_decoding: int,
    num_keys: int,
) -> None:
    pace = StepPace(limit, is_adaptive=True)
    for num_prompt_tokens, num_streams, seconds in steps:
        pace.observe(
            num_prompt_tokens=num_prompt_tokens,
            num_pairs=num_prompt_tokens * num_keys,
            num_decoding=num_streams,
            duration_s=seconds,
        )

    budget = pace.find_budget(num_prompts=num_prompts, num_decoding=num_decoding, num_keys=num_keys)
    assert 1 <= budget <= limit
