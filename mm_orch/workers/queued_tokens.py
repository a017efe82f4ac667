"""How much a worker has still to compute, counted in tokens."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EXPECTED_TOKENS = 256
"""Of an answer: what a request may generate says little of what it will."""


def expect_tokens(max_tokens: int | None) -> int:
    """Return for how many tokens an answer counts before it begins.

    Args:
        max_tokens: that it may have; None for no bound.
    """
    return MAX_EXPECTED_TOKENS if max_tokens is None else min(max_tokens, MAX_EXPECTED_TOKENS)


@dataclass(slots=True)
class _Rest:
    num_prompt_tokens: int
    num_output_tokens: int


class QueuedTokens:
    """The sequences and texts of one worker that have not ended.

    A prompt counts whole until its first token is there, an answer with what it may still grow to,
    but no more than is to be expected.

    Attributes:
        num_computed: tokens of prompts and answers that were computed since the worker began.
    """

    def __init__(self) -> None:
        self.total = 0
        self.num_computed = 0
        self._rest_by_id: dict[str, _Rest] = {}

    @property
    def num_open(self) -> int:
        """Sequences and texts that have not ended."""
        return len(self._rest_by_id)

    def add(self, one_id: str, *, num_prompt_tokens: int, max_output_tokens: int = 0) -> None:
        """Count a sequence or a text.

        Args:
            one_id: its own.
            num_prompt_tokens: that are to be computed.
            max_output_tokens: that may be generated.
        """
        rest = _Rest(num_prompt_tokens, expect_tokens(max_output_tokens))
        self._rest_by_id[one_id] = rest
        self.total += rest.num_prompt_tokens + rest.num_output_tokens

    def advance(self, one_id: str, num_tokens: int) -> None:
        """Note that so many tokens were generated, and with the first of them the prompt."""
        if (rest := self._rest_by_id.get(one_id)) is not None:
            self.num_computed += rest.num_prompt_tokens + num_tokens
            num_done = min(rest.num_output_tokens, num_tokens)
            self.total -= rest.num_prompt_tokens + num_done
            rest.num_prompt_tokens = 0
            rest.num_output_tokens -= num_done

    def drop(self, one_id: str) -> None:
        """Count one no more: it has ended, or nobody wants it; safe for one that is not counted."""
        if (rest := self._rest_by_id.pop(one_id, None)) is not None:
            self.total -= rest.num_prompt_tokens + rest.num_output_tokens

    def clear(self) -> None:
        """Count nothing more of what was added so far."""
        self._rest_by_id.clear()
        self.total = 0
