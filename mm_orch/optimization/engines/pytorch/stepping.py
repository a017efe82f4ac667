"""What engines on torch do around a forward pass: warm up, and sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch.faults import translated_faults
from mm_orch.optimization.engines.sampling import sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Batch

    from mm_orch.core.generation import TokenChunk

WARM_UP_TOKENS = 4


def compute_tokens(
    batch: Batch[ScheduledSequence], forward: Callable[[Batch[ScheduledSequence]], torch.Tensor]
) -> list[TokenChunk]:
    """Compute a step and sample where a prompt is complete.

    Args:
        batch: the step.
        forward: returns logits, [number of completed prompts, vocab_size].

    Raises:
        EngineOutOfMemoryError: device or host memory ran out.
        EngineFailedError: torch refused the step.
    """
    with translated_faults(), torch.inference_mode():
        logits = forward(batch)
        finished = [scheduled.sequence for scheduled in batch if scheduled.completes_prompt]
        return sample(logits.float(), finished) if finished else []


def make_warm_up(num_tokens: int) -> list[ScheduledSequence]:
    """Return a batch of one prompt, whose keys and values go into the first block over and over.

    Only those of the first block's tokens can be used.
    """
    sequence = Sequence(
        sequence_id="warm-up",
        token_ids=[position % WARM_UP_TOKENS for position in range(num_tokens)],
        params=SamplingParams(max_tokens=1),
        block_ids=[0] * num_tokens,
    )
    return [ScheduledSequence(sequence, num_tokens)]
