"""An engine in one file: it goes on with a text as that text went on before.

The next token is the one that followed when the last two (or the last one) stood in the text
before, which is how prompt lookup drafts tokens for a real model. It computes no probabilities, so
temperature and seed change nothing. Try it:

    pip install ./examples/custom_engine
    MUAI_OPT_ENGINE_PREFERENCE=lookup muai --server
    curl http://127.0.0.1:8000/v1/completions \
        -d '{"prompt": "to be or not to be or not", "max_tokens": 4}'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mm_orch.core.generation import TokenChunk
from mm_orch.optimization.engines.contract import Availability, EngineFacts, count_kv_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence

_BLOCK_TOKENS = 16
_BLOCK_BYTES = _BLOCK_TOKENS * 4


class LookupBackend:
    """Goes on as the text did before; where it never did, ends or repeats its last token.

    What it knows of a token lies in the token's slot of the KV blocks, as keys and values of a
    model would: the batcher shares and moves blocks without asking.
    """

    name: ClassVar[str] = "lookup"

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._eos_token_ids: tuple[int, ...] = ()
        self._slots: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    @classmethod
    def probe(cls) -> Availability:
        """Say that it runs everywhere; one that needs a library looks for it here."""
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Take memory for as many blocks as the specification pays for."""
        if self._facts is None:
            num_blocks = count_kv_blocks(spec, block_tokens=_BLOCK_TOKENS, block_bytes=_BLOCK_BYTES)
            self._eos_token_ids = spec.eos_token_ids
            self._slots = np.zeros(num_blocks * _BLOCK_TOKENS, dtype=np.int64)
            self._facts = EngineFacts(
                engine=self.name,
                dtype="none",
                device="cpu",
                context_length=spec.context_length,
                kv_block_tokens=_BLOCK_TOKENS,
                kv_block_bytes=_BLOCK_BYTES,
                num_kv_blocks=num_blocks,
            )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Store the new tokens of each sequence; give one to each that is complete."""
        chunks: list[TokenChunk] = []
        for scheduled in batch:
            sequence, begin = scheduled.sequence, scheduled.sequence.num_computed_tokens
            end = begin + scheduled.num_new_tokens
            slots = _slots_of(sequence, end)
            self._slots[slots[begin:]] = sequence.token_ids[begin:end]
            if scheduled.completes_prompt:
                token_id = self._choose(sequence, self._slots[slots])
                chunks.append(TokenChunk(sequence_id=sequence.sequence_id, token_ids=(token_id,)))
        return chunks

    def stop(self) -> None:
        """Free the memory."""
        self._facts = None
        self._slots = np.zeros(0, dtype=np.int64)

    def _choose(self, sequence: Sequence, text: NDArray[np.int64]) -> int:
        params = sequence.params
        may_end = not params.ignore_eos and sequence.num_output_tokens >= params.min_tokens
        token_id = _look_up(text)
        if token_id is None:
            token_id = self._eos_token_ids[0] if may_end and self._eos_token_ids else int(text[-1])
        if sequence.mask is None:
            return token_id
        # An answer with a shape: the nearest token that its grammar allows.
        allowed = np.unpackbits(sequence.mask.view(np.uint8), bitorder="little").nonzero()[0]
        return int(allowed[np.abs(allowed - token_id).argmin()])


def _slots_of(sequence: Sequence, num_tokens: int) -> NDArray[np.int64]:
    positions = np.arange(num_tokens)
    blocks = np.asarray(sequence.block_ids)[positions // _BLOCK_TOKENS]
    return blocks * _BLOCK_TOKENS + positions % _BLOCK_TOKENS


def _look_up(text: NDArray[np.int64]) -> int | None:
    """Return what followed the last tokens when they last stood in the text before."""
    for length in (2, 1):
        if len(text) <= length:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(text[:-1], length)
        [found] = (windows == text[-length:]).all(axis=1).nonzero()
        if len(found):
            return int(text[found[-1] + length])
    return None
