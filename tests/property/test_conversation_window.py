"""Whatever a conversation holds: the last turns that fit are shown, whole, and no fewer."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_orch.core.generation import Message
from mm_orch.workflows.window import find_most, find_steady_begin, fit_window, split_turns
from tests.unit.workflows.scene import WordMeter

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGES = st.builds(
    lambda role, num_words: Message(role=role, content=" ".join(["word"] * num_words)),
    st.sampled_from(["system", "user", "user", "assistant", "tool"]),
    st.integers(0, 12),
)
CONVERSATIONS = st.lists(MESSAGES, max_size=25).map(
    lambda earlier: [*earlier, Message(role="user", content="the question")]
)


@given(CONVERSATIONS)
def test_no_message_is_lost_or_moved_by_splitting(messages: list[Message]) -> None:
    conversation = split_turns(messages)

    assert list(conversation.with_last(len(conversation.turns))) == messages
    assert conversation.question == (messages[-1],)
    assert all(message.role == "system" for message in conversation.system)
    for turn in conversation.turns[1:]:
        assert turn[0].role == "user"
        assert all(message.role != "user" for message in turn[1:])


@given(CONVERSATIONS, st.integers(0, 150))
def test_as_many_of_the_last_turns_as_fit_are_shown(messages: list[Message], budget: int) -> None:
    conversation, count = split_turns(messages), WordMeter().count

    shown = fit_window(conversation, WordMeter(), budget)

    sizes = [conversation.with_last(num) for num in range(len(conversation.turns) + 1)]
    num_shown = sizes.index(shown)
    most = max((num for num, one in enumerate(sizes) if count(one) <= budget), default=0)
    # Of those that fit, less than a quarter is given up, and only where some had to be left out.
    fewest = most if most == len(conversation.turns) else most - max(0, (most - 1) // 4)
    assert fewest <= num_shown <= most


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_less_than_a_quarter_is_given_up_for_a_steady_beginning(begin: int, num_turns: int) -> None:
    steady = find_steady_begin(begin, num_turns)

    assert begin <= steady
    assert steady == begin or steady - begin < num_turns / 4


@pytest.mark.parametrize(
    ("begin", "num_turns", "steady"),
    [(0, 100, 0), (5, 7, 5), (5, 8, 6), (6, 8, 6), (5, 16, 8), (8, 31, 8), (9, 40, 16)],
)
def test_the_beginning_is_a_multiple_that_grows_with_what_fits(
    begin: int, num_turns: int, steady: int
) -> None:
    assert find_steady_begin(begin, num_turns) == steady


@settings(deadline=None)
@given(st.integers(8, 60), st.integers(1, 9))
def test_the_beginning_stays_while_several_turns_come(num_fitting: int, num_words: int) -> None:
    turn = [
        Message(role="user", content=" ".join(["word"] * num_words)),
        Message(role="assistant", content="word"),
    ]
    question = Message(role="user", content="word")
    meter = WordMeter()
    budget = meter.count([*turn * num_fitting, question])
    begins = []
    for num_turns in range(num_fitting, 5 * num_fitting):
        numbered = [
            Message(role=one.role, content=one.content, tool_call_id=str(number))
            for number in range(num_turns)
            for one in turn
        ]
        shown = fit_window(split_turns([*numbered, question]), meter, budget)
        begins.append(int(shown[0].tool_call_id))

    moves = sum(before != after for before, after in pairwise(begins))
    assert begins == sorted(begins)
    # Without it, each turn would move it.
    assert moves <= len(begins) / 2 + 1


def test_what_fits_is_counted_once_and_what_is_far_too_long_never_whole() -> None:
    class Counting(WordMeter):
        def count(self, messages: Sequence[Message]) -> int:
            counted.append(len(messages))
            return super().count(messages)

    counted: list[int] = []
    turn = [Message(role="user", content="some words"), Message(role="assistant", content="more")]
    question = Message(role="user", content="the question")

    assert len(fit_window(split_turns([*turn * 50, question]), Counting(), 10_000)) == 101
    assert counted == [101]
    counted.clear()
    fit_window(split_turns([*turn * 500, question]), Counting(), 50)

    assert max(counted) < 50


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 100)), max_size=300),
    st.integers(-10, 9000),
)
def test_the_most_that_fits_is_found_in_few_counts_however_wrong_the_guesses(
    parts: list[tuple[int, int]], budget: int
) -> None:
    guesses = list(accumulate((guess for guess, _ in parts), initial=5))
    sizes = list(accumulate((size for _, size in parts), initial=5))
    counted: list[int] = []

    def count(number: int) -> int:
        counted.append(number)
        return sizes[number]

    assert find_most(guesses, count, budget) == max(0, bisect_right(sizes, budget) - 1)
    assert len(counted) <= 6 + math.log2(len(parts) + 1) + 1


@given(st.integers(1, 2000), st.integers(30, 3000), st.sampled_from([0.4, 0.8, 1.0, 1.6, 3.0]))
def test_of_turns_that_are_alike_the_most_is_found_in_few_counts(
    num_turns: int, budget: int, ratio: float
) -> None:
    guesses = [20 + 30 * number for number in range(num_turns + 1)]
    counted: list[int] = []

    def count(number: int) -> int:
        counted.append(number)
        return int(ratio * guesses[number]) + 7

    find_most(guesses, count, budget)

    assert len(counted) <= 5
