from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.batching.pace import StepPace


def taught(decode_s: float, per_token_s: float, *, is_adaptive: bool = True) -> StepPace:
    pace = StepPace(2048, is_adaptive=is_adaptive)
    for _ in range(20):
        pace.observe(num_prompt_tokens=0, num_decoding=8, duration_s=decode_s)
        pace.observe(num_prompt_tokens=50, num_decoding=8, duration_s=decode_s + 50 * per_token_s)
    return pace


def test_without_running_streams_the_whole_budget_is_used() -> None:
    assert taught(0.02, 0.001).find_budget(has_decoding=False) == 2048


def test_switched_off_it_never_changes_the_budget() -> None:
    assert taught(0.02, 0.001, is_adaptive=False).find_budget(has_decoding=True) == 2048


def test_beside_streams_a_step_is_kept_below_twice_a_decoding_step() -> None:
    # 14 ms to spare at 1 ms a token.
    assert taught(0.02, 0.001).find_budget(has_decoding=True) in {13, 14}


def test_a_device_to_which_prompts_cost_little_takes_them_whole() -> None:
    assert taught(0.02, 0.000001).find_budget(has_decoding=True) == 2048


def test_prompts_always_advance() -> None:
    assert taught(0.001, 1.0).find_budget(has_decoding=True) == 12


def test_before_anything_is_known_it_begins_small() -> None:
    assert StepPace(2048, is_adaptive=True).find_budget(has_decoding=True) == 16
    assert StepPace(8, is_adaptive=True).find_budget(has_decoding=True) == 8


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 64), st.floats(0, 100)), max_size=30
    ),
    limit=st.integers(1, 10_000),
    has_decoding=st.booleans(),
)
def test_the_budget_is_always_between_one_and_the_limit(
    *, steps: list[tuple[int, int, float]], limit: int, has_decoding: bool
) -> None:
    pace = StepPace(limit, is_adaptive=True)
    for num_prompt_tokens, num_decoding, duration_s in steps:
        pace.observe(
            num_prompt_tokens=num_prompt_tokens,
            num_decoding=num_decoding,
            duration_s=duration_s,
        )

    assert 1 <= pace.find_budget(has_decoding=has_decoding) <= limit
