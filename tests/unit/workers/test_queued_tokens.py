from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.workers.queued_tokens import MAX_EXPECTED_TOKENS, QueuedTokens


def test_a_sequence_counts_for_what_it_still_costs() -> None:
    queued = QueuedTokens()
    queued.add("a", num_prompt_tokens=100, max_output_tokens=10)
    queued.add("b", num_prompt_tokens=7, max_output_tokens=10**6)
    assert queued.total == 110 + 7 + MAX_EXPECTED_TOKENS

    queued.advance("a", 1)
    assert queued.total == 9 + 7 + MAX_EXPECTED_TOKENS
    queued.drop("b")
    assert queued.total == 9


def test_what_was_computed_is_counted_for_as_long_as_the_worker_lives() -> None:
    queued = QueuedTokens()
    queued.add("a", num_prompt_tokens=100, max_output_tokens=10)
    queued.add("text", num_prompt_tokens=7)
    assert queued.num_computed == 0

    queued.advance("a", 1)
    queued.advance("a", 400)
    queued.advance("text", 0)
    queued.drop("a")
    queued.advance("a", 3)
    queued.clear()
    assert queued.num_computed == 501 + 7


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["advance", "drop"]), st.sampled_from("abc"), st.integers(0, 300)
        ),
        max_size=30,
    )
)
def test_the_count_is_never_below_nothing_and_ends_at_it(
    moves: list[tuple[str, str, int]],
) -> None:
    queued = QueuedTokens()
    for name, size in {"a": 5, "b": 0, "c": 900}.items():
        queued.add(name, num_prompt_tokens=size, max_output_tokens=size)
    last = queued.total
    for what, name, num_tokens in moves:
        if what == "advance":
            queued.advance(name, num_tokens)
        else:
            queued.drop(name)
        assert 0 <= queued.total <= last
        last = queued.total
    for name in "abc":
        queued.drop(name)
    assert queued.total == 0
