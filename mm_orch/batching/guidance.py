"""Keeps guided sequences to their grammars: which tokens each may take next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mm_orch.core.errors import EngineFailedError, InvalidValueError, UnsupportedError
from mm_orch.models.grammar import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import llguidance
    from numpy.typing import NDArray

    from mm_orch.models.grammar import GrammarCompiler
    from mm_orch.optimization.engines.contract import Sequence

_WORD_BITS = 32


class Guidance:
    """The grammar states of one batcher's sequences.

    A state is made when a sequence is first asked about, from its guide and the tokens of output
    that it has by then: so it is the same wherever a sequence was begun. It stays while the
    sequence waits without memory, and goes when the sequence ends.

    Args:
        compiler: makes grammars for the model's tokens; without one, guided sequences fail.
    """

    def __init__(self, compiler: GrammarCompiler | None = None) -> None:
        self._compiler = compiler
        self._matchers: dict[str, llguidance.LLMatcher] = {}

    def mask(self, sequence: Sequence) -> None:
        """Set the mask of what the sequence may take next; none where it is not guided.

        Raises:
            InvalidValueError: the grammar has become too large to go on with.
            UnsupportedError: the model's tokeniser does not fit the grammar library.
            EngineFailedError: the sequence has output that its grammar does not allow.
        """
        if sequence.params.guide is None:
            return
        matcher = self._matchers.get(sequence.sequence_id)
        if matcher is None or sequence.mask is None:
            matcher, sequence.mask = self._begin(sequence)
        matcher.unsafe_compute_mask_ptr(sequence.mask.ctypes.data, sequence.mask.nbytes)
        if matcher.is_error():
            raise InvalidValueError(
                f"The answer cannot be kept to its shape any longer: {reason_of(matcher)}.",
                param="guide",
            )

    def accept(self, sequence: Sequence, token_ids: Iterable[int]) -> bool:
        """Take the sequence's new tokens; return whether nothing may follow them.

        Raises:
            EngineFailedError: the mask did not allow them.
        """
        matcher = self._matchers.get(sequence.sequence_id)
        return matcher is not None and _consume(matcher, sequence, token_ids)

    def release(self, sequence_ids: Iterable[str]) -> None:
        """Forget sequences that have ended; others are ignored."""
        for sequence_id in sequence_ids:
            self._matchers.pop(sequence_id, None)

    def _begin(self, sequence: Sequence) -> tuple[llguidance.LLMatcher, NDArray[np.uint32]]:
        compiler, guide = self._compiler, sequence.params.guide
        if compiler is None or guide is None:
            raise UnsupportedError("Nothing is known of this model's tokens.", param="guide")
        matcher = compiler.compile(guide)
        _consume(matcher, sequence, sequence.token_ids[sequence.num_prompt_tokens :])
        self._matchers[sequence.sequence_id] = matcher
        return matcher, np.zeros(-(-compiler.vocab_size // _WORD_BITS), dtype=np.uint32)


def _consume(matcher: llguidance.LLMatcher, sequence: Sequence, token_ids: Iterable[int]) -> bool:
    # What ends an answer is no part of it, and a matcher that has stopped takes no token at all.
    tokens = [one for one in token_ids if one not in sequence.params.stop_token_ids]
    num_taken = matcher.try_consume_tokens(tokens)
    if num_taken < len(tokens):
        raise EngineFailedError(
            f"Token {tokens[num_taken]} is not allowed by the grammar of {sequence.sequence_id}."
        )
    return matcher.is_stopped()
