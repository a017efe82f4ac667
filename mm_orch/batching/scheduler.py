"""Which sequences the next step advances, and by how many tokens: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from mm_orch.optimization.engines.contract import ScheduledSequence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.optimization.engines.contract import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Bounds of one step.

    Attributes:
        max_batch_size: most sequences in a step; 1 is one at a time.
        max_batch_tokens: most prompt tokens computed in a step; longer prompts take several.
    """

    max_batch_size: int
    max_batch_tokens: int


def schedule(
    running: Iterable[Sequence], waiting: Iterable[Sequence], limits: BatchLimits
) -> list[ScheduledSequence]:
    """Choose the next step: every running sequence first, then newcomers in order of arrival.

    A decoding sequence costs one token and no prompt budget, so streams keep their pace while
    prompts are taken in. Prompts share ``max_batch_tokens`` in order; what does not fit waits.
    """
    budget = limits.max_batch_tokens
    batch: list[ScheduledSequence] = []
    for sequence in islice(chain(running, waiting), limits.max_batch_size):
        if sequence.num_output_tokens and sequence.num_uncomputed_tokens == 1:
            batch.append(ScheduledSequence(sequence, 1))
        elif budget:
            num_new_tokens = min(sequence.num_uncomputed_tokens, budget)
            budget -= num_new_tokens
            batch.append(ScheduledSequence(sequence, num_new_tokens))
    return batch
