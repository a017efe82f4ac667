"""Which of a conversation's turns a model is shown: the last ones that fit, each whole."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from mm_orch.orchestration.measuring import guess_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.generation import Meter

# Of the context, for a prompt whose answer has no length of its own.
_PROMPT_SHARE = 0.75
# Counts that are aimed by the guesses, before what is left is halved each time.
_MAX_AIMED = 6


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is said, in the parts that are kept or left out together.

    Attributes:
        system: instructions, which always stay.
        turns: each begins with what the user said, the oldest first.
        question: the last one, which is to be answered.
    """

    system: tuple[Message, ...]
    turns: tuple[tuple[Message, ...], ...]
    question: tuple[Message, ...]

    def with_last(self, num_turns: int) -> tuple[Message, ...]:
        """Return the messages with so many of the last turns."""
        first = len(self.turns) - num_turns
        shown = (message for turn in self.turns[first:] for message in turn)
        return (*self.system, *shown, *self.question)


def split_turns(messages: Sequence[Message]) -> Conversation:
    """Find the turns of a conversation, whose last one is the question.

    Instructions before the first turn stay; those between turns belong to the turn they follow.
    """
    num_system = next(
        (index for index, message in enumerate(messages) if message.role != "system"),
        len(messages),
    )
    *earlier, question = group_turns(messages[num_system:]) or [()]
    return Conversation(tuple(messages[:num_system]), tuple(earlier), question)


def group_turns(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Return the turns that these make: each begins with what the user said."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return [tuple(turn) for turn in turns]


def find_budget(
    context_length: int | None, *, max_tokens: int | None, window_tokens: int | None
) -> int | None:
    """Return the most tokens that the prompt may have, or None for any number.

    Args:
        context_length: of prompt and answer together, or None where it is not known.
        max_tokens: of the answer, where that is bounded.
        window_tokens: the configured bound.
    """
    bounds = [] if window_tokens is None else [window_tokens]
    if context_length is not None:
        room = int(context_length * _PROMPT_SHARE)
        bounds.append(room if max_tokens is None else context_length - max_tokens)
    return min(bounds, default=None)


def fit_window(conversation: Conversation, meter: Meter, budget: int) -> tuple[Message, ...]:
    """Return the messages with about the most of the last turns that the budget allows.

    The question stays even where it alone is over the budget: whoever takes it says so. Where turns
    are left out, up to a quarter of those that fit may be too: so the first one shown stays the
    same over several questions, and the KV cache still has what follows it.

    Args:
        conversation: what is said.
        meter: counts tokens.
        budget: tokens of the whole prompt.
    """
    guesses = _guess_sizes(conversation)
    total = len(conversation.turns)
    num_turns = find_most(guesses, lambda num: meter.count(conversation.with_last(num)), budget)
    num_hidden = find_steady_begin(total - num_turns, num_turns)
    return conversation.with_last(total - num_hidden)


def _guess_sizes(conversation: Conversation) -> list[int]:
    """Return the guessed tokens with none of the turns, with the last, with the last two, ..."""
    fixed = guess_tokens((*conversation.system, *conversation.question))
    return list(accumulate(map(guess_tokens, reversed(conversation.turns)), initial=fixed))


def find_steady_begin(begin: int, num_turns: int) -> int:
    """Return a beginning at or after this one that moves seldom while the conversation grows.

    Args:
        begin: turns that must be left out.
        num_turns: those that fit; less than a quarter of them is given up.
    """
    # Powers of two: what is a multiple of a greater one is one of the smaller ones too, so that a
    # number of turns that wavers moves the beginning no more often.
    stride = 1 << max(0, num_turns.bit_length() - 3)
    return -(-begin // stride) * stride


def find_most(guesses: Sequence[int], count: Callable[[int], int], budget: int) -> int:
    """Return the greatest number that fits, where what is smaller fits too; else 0.

    Counting is costly. Each count says how far guesses are off, so that the next is made where the
    answer should be; usually two or three are needed, one to see that all fit.

    Args:
        guesses: of the sizes with 0, 1, ... parts, rising.
        count: gives the true size with so many parts.
        budget: the greatest size that fits.
    """
    low, high = 0, len(guesses)
    ratio = 1.0
    num_counts = 0
    while high - low > 1:
        if num_counts < _MAX_AIMED:
            aimed = bisect_right(guesses, budget / ratio) - 1
            middle = min(max(aimed, low + 1), high - 1)
        else:
            # Parts that are nothing like one another.
            middle = (low + high) // 2
        size = count(middle)
        num_counts += 1
        ratio = size / guesses[middle] or ratio
        low, high = (middle, high) if size <= budget else (low, middle)
    return low
