"""Draws the next token of each sequence from its logits.

Every draw is keyed by (seed, position), so a sequence's text depends neither on its neighbours
in the batch nor on where it was resumed. Runs on torch tensors; engines on other libraries hand
theirs over without a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mm_orch.core.generation import TokenChunk, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    from mm_orch.core.generation import SamplingParams
    from mm_orch.optimization.engines.contract import Sequence


_MIN_TEMPERATURE = 1e-5


def sample(logits: torch.Tensor, sequences: Batch[Sequence]) -> list[TokenChunk]:
    """Choose one token for each row.

    Args:
        logits: [num_sequences, vocab_size], float32, unscaled.
        sequences: one a row, in the same order.
    """
    if all(_is_plain_greedy(sequence) for sequence in sequences):
        token_ids = logits.argmax(dim=-1).tolist()
    else:
        token_ids = [
            _choose(row, sequence) for row, sequence in zip(logits, sequences, strict=True)
        ]
    return [
        TokenChunk(
            sequence_id=sequence.sequence_id,
            token_ids=(token_id,),
            logprobs=_find_logprobs(row, token_id, sequence.params.num_logprobs),
        )
        for row, token_id, sequence in zip(logits, token_ids, sequences, strict=True)
    ]


def _is_plain_greedy(sequence: Sequence) -> bool:
    return _is_greedy(sequence.params) and not _changes_logits(sequence)


def _is_greedy(params: SamplingParams) -> bool:
    # Dividing by less would leave nothing but infinities.
    return params.temperature < _MIN_TEMPERATURE


def _changes_logits(sequence: Sequence) -> bool:
    params = sequence.params
    return bool(
        params.presence_penalty
        or params.frequency_penalty
        or params.repetition_penalty != 1
        or params.logit_bias
        or _forbids_stop(sequence)
    )


def _forbids_stop(sequence: Sequence) -> bool:
    return bool(sequence.params.stop_token_ids) and (
        sequence.num_output_tokens < sequence.params.min_tokens
    )


def _choose(row: torch.Tensor, sequence: Sequence) -> int:
    params = sequence.params
    logits = _adjust(row, sequence) if _changes_logits(sequence) else row
    if _is_greedy(params):
        return int(logits.argmax())
    # Double precision from here on: rounding must not decide between neighbouring tokens.
    probabilities = torch.softmax(logits.double() / params.temperature, dim=-1)
    kept = _filter(probabilities, params)
    cumulative = kept.cumsum(dim=-1)
    if not cumulative[-1] > 0:
        # A model whose logits are not numbers gives no distribution; its neighbours go on.
        return int(logits.argmax())
    threshold = uniform(params.seed, sequence.num_output_tokens) * cumulative[-1]
    # The first token whose cumulative mass exceeds the threshold; never one of mass zero.
    index = int(torch.searchsorted(cumulative, threshold, right=True))
    return min(index, int(torch.nonzero(kept)[-1]))


def _adjust(row: torch.Tensor, sequence: Sequence) -> torch.Tensor:
    """Apply penalties, bias and the ban on early stop tokens; [vocab_size], a new tensor."""
    params = sequence.params
    logits = row.clone()
    if params.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(sequence.token_ids)), device=row.device)
        values = logits[seen]
        logits[seen] = torch.where(
            values > 0, values / params.repetition_penalty, values * params.repetition_penalty
        )
    outputs = sequence.token_ids[sequence.num_prompt_tokens :]
    if outputs and (params.presence_penalty or params.frequency_penalty):
        generated, counts = torch.unique(
            torch.tensor(outputs, device=row.device), return_counts=True
        )
        logits[generated] -= params.presence_penalty + params.frequency_penalty * counts
    for token_id, bias in params.logit_bias.items():
        logits[token_id] += bias
    if _forbids_stop(sequence):
        logits[list(params.stop_token_ids)] = -torch.inf
    return logits


def _filter(probabilities: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Zero all but the tokens that top_k, top_p and min_p keep; [vocab_size]."""
    kept = probabilities
    if 0 < params.top_k < probabilities.numel():
        smallest = probabilities.topk(params.top_k).values[-1]
        kept = torch.where(kept >= smallest, kept, 0.0)
    if params.min_p > 0:
        kept = torch.where(probabilities >= params.min_p * probabilities.max(), kept, 0.0)
    if params.top_p < 1:
        ordered = kept.sort(descending=True).values
        mass = ordered.cumsum(dim=-1)
        # A token stays while the mass before it has not reached top_p: one always does.
        num_kept = int((mass - ordered < params.top_p * mass[-1]).sum())
        kept = torch.where(kept >= ordered[max(num_kept, 1) - 1], kept, 0.0)
    return kept


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that depends on seed and position alone (Philox, Salmon 2011)."""
    # As unsigned words: from a list of large integers numpy would make floats and round them.
    key = np.array([seed % 2**64, position], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    return float(generator.random())


def _find_logprobs(
    row: torch.Tensor, token_id: int, num_logprobs: int | None
) -> tuple[TokenLogprob, ...] | None:
    if num_logprobs is None:
        return None
    logprobs = torch.log_softmax(row, dim=-1)
    top = logprobs.topk(num_logprobs) if num_logprobs else None
    alternatives = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else ()
    return (TokenLogprob(token_id=token_id, logprob=float(logprobs[token_id]), top=alternatives),)
