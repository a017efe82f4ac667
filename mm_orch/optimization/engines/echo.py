"""The deterministic engine: says the prompt back, token by token. Template for plug-in authors.

It needs no library and no weights, so tests of everything above the engine run on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mm_orch.core.generation import TokenChunk, TokenLogprob
from mm_orch.optimization.engines.contract import Availability, EngineFacts, EngineStats

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Batch

    from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence


class EchoBackend:
    """Answers with the prompt's own tokens, then an end-of-sequence token.

    Asked to ignore the end or to give more tokens than the prompt has, it starts over.
    """

    name: ClassVar[str] = "echo"

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._eos_token_ids: tuple[int, ...] = ()
        self._held_ids: set[str] = set()

    @classmethod
    def probe(cls) -> Availability:
        """Echo runs everywhere."""
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Take the model's end tokens and context length; nothing is loaded."""
        if self._facts is None:
            self._eos_token_ids = spec.eos_token_ids
            self._facts = EngineFacts(
                engine=self.name, dtype="none", device="cpu", context_length=spec.context_length
            )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Give each sequence whose prompt is complete the token it echoes next."""
        self._held_ids.update(scheduled.sequence.sequence_id for scheduled in batch)
        return [
            _echo_chunk(scheduled.sequence, self._next_token(scheduled.sequence))
            for scheduled in batch
            if scheduled.completes_prompt
        ]

    def release(self, sequence_ids: Iterable[str]) -> None:
        """Forget these sequences."""
        self._held_ids.difference_update(sequence_ids)

    def stats(self) -> EngineStats:
        """How many sequences have been seen and not released."""
        return EngineStats(num_sequences=len(self._held_ids), kv_bytes=0)

    def stop(self) -> None:
        """Forget everything."""
        self._held_ids.clear()
        self._facts = None

    def _next_token(self, sequence: Sequence) -> int:
        params, position = sequence.params, sequence.num_output_tokens
        has_said_all = position >= max(sequence.num_prompt_tokens, params.min_tokens)
        if has_said_all and self._eos_token_ids and not params.ignore_eos:
            return self._eos_token_ids[0]
        return sequence.token_ids[position % sequence.num_prompt_tokens]


def _echo_chunk(sequence: Sequence, token_id: int) -> TokenChunk:
    # The choice is certain, so its log probability is 0 and it has no alternatives.
    logprobs = None
    if sequence.params.num_logprobs is not None:
        logprobs = (TokenLogprob(token_id=token_id, logprob=0.0),)
    return TokenChunk(sequence_id=sequence.sequence_id, token_ids=(token_id,), logprobs=logprobs)
