"""The deterministic engine: says the prompt back, token by token. Template for plug-in authors.

It needs no library and no weights, so tests of everything above the engine run on it. What it
says it reads from its KV blocks: blocks that were mixed up show in the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import TokenChunk, TokenLogprob
from mm_orch.optimization.engines.contract import Availability, EngineFacts, count_kv_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Batch

    from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence

_BLOCK_TOKENS = 16
_TOKEN_BYTES = 4


class EchoBackend:
    """Answers with the prompt's own tokens, then an end-of-sequence token.

    Asked to ignore the end or to give more tokens than the prompt has, it starts over. Where its
    next token is not allowed, it takes the next higher one that is.
    """

    name: ClassVar[str] = "echo"

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._spec: EngineSpec | None = None
        self._eos_token_ids: tuple[int, ...] = ()
        # One token a slot, where a model keeps a token's keys and values.
        self._token_by_slot: dict[int, int] = {}

    @classmethod
    def probe(cls) -> Availability:
        """Echo runs everywhere."""
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Take the model's end tokens and context length; nothing is loaded."""
        if self._facts is None:
            self._spec = spec
            self._eos_token_ids = spec.eos_token_ids
            self._facts = EngineFacts(
                engine=self.name,
                dtype="none",
                device="cpu",
                context_length=spec.context_length,
                kv_block_tokens=_BLOCK_TOKENS,
                kv_block_bytes=_BLOCK_TOKENS * _TOKEN_BYTES,
                num_kv_blocks=self.count_kv_blocks(spec.max_kv_bytes),
            )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Store the new tokens, then give each complete prompt the token it echoes next."""
        for scheduled in batch:
            sequence, begin = scheduled.sequence, scheduled.sequence.num_computed_tokens
            for position in range(begin, begin + scheduled.num_new_tokens):
                self._token_by_slot[_slot_of(sequence, position)] = sequence.token_ids[position]
        return [
            _echo_chunk(
                scheduled.sequence,
                _allowed(scheduled.sequence, self._next_token(scheduled.sequence)),
            )
            for scheduled in batch
            if scheduled.completes_prompt
        ]

    def count_kv_blocks(self, max_kv_bytes: int) -> int:
        """See ResizableBackend."""
        if self._spec is None:
            raise EngineFailedError("The echo engine has not been started.")
        return count_kv_blocks(
            msgspec.structs.replace(self._spec, max_kv_bytes=max_kv_bytes),
            block_tokens=_BLOCK_TOKENS,
            block_bytes=_BLOCK_TOKENS * _TOKEN_BYTES,
        )

    def move_kv(self, moves: Mapping[int, int]) -> None:
        """Move the blocks' tokens."""
        for source, target in moves.items():
            for offset in range(_BLOCK_TOKENS):
                token_id = self._token_by_slot.pop(source * _BLOCK_TOKENS + offset, None)
                if token_id is not None:
                    self._token_by_slot[target * _BLOCK_TOKENS + offset] = token_id

    def resize_kv(self, num_blocks: int, *, num_kept: int) -> None:
        """Forget the tokens of blocks that are not kept; there is room for any number."""
        num_slots = min(num_blocks, num_kept) * _BLOCK_TOKENS
        self._token_by_slot = {
            slot: token_id for slot, token_id in self._token_by_slot.items() if slot < num_slots
        }

    def stop(self) -> None:
        """Forget everything."""
        self._token_by_slot.clear()
        self._facts = None

    def _next_token(self, sequence: Sequence) -> int:
        params, position = sequence.params, sequence.num_output_tokens
        has_said_all = position >= max(sequence.num_prompt_tokens, params.min_tokens)
        if has_said_all and self._eos_token_ids and not params.ignore_eos:
            return self._eos_token_ids[0]
        slot = _slot_of(sequence, position % sequence.num_prompt_tokens)
        token_id = self._token_by_slot.get(slot)
        if token_id is None:
            raise EngineFailedError(f"Slot {slot} of {sequence.sequence_id} holds no token.")
        return token_id


def _allowed(sequence: Sequence, token_id: int) -> int:
    if sequence.mask is None:
        return token_id
    allowed = np.unpackbits(sequence.mask.view(np.uint8), bitorder="little").nonzero()[0]
    # Behind the highest comes the lowest.
    return int(allowed[np.searchsorted(allowed, token_id) % len(allowed)])


def _slot_of(sequence: Sequence, position: int) -> int:
    block = sequence.block_ids[position // _BLOCK_TOKENS]
    return block * _BLOCK_TOKENS + position % _BLOCK_TOKENS


def _echo_chunk(sequence: Sequence, token_id: int) -> TokenChunk:
    # The choice is certain, so its log probability is 0 and it has no alternatives.
    logprobs = None
    if sequence.params.num_logprobs is not None:
        logprobs = (TokenLogprob(token_id=token_id, logprob=0.0),)
    return TokenChunk(sequence_id=sequence.sequence_id, token_ids=(token_id,), logprobs=logprobs)
