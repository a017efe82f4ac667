"""Draws the next token of each sequence from its logits.

Every draw is keyed by (seed, position), so a sequence's text depends neither on its neighbours
in the batch nor on where it was resumed. Runs on torch tensors; engines on other libraries hand
theirs over without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mm_orch.core.generation import TokenChunk, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Sequence as Batch

    from numpy.typing import NDArray

    from mm_orch.core.generation import SamplingParams
    from mm_orch.optimization.engines.contract import Sequence


_MIN_TEMPERATURE = 1e-5
# Tokens less likely than the likeliest by more than these factors are looked at only where a draw
# needs them: of a language model's vocabulary some hundred are left, then some thousand, then all.
_LIKELY = 1e-3
_TIERS = (1e-6, 0.0)
# What eight bits of a mask add to the logits of their tokens: nothing, or all there is.
_BITS = np.arange(256)[:, None] >> np.arange(8) & 1
_BIAS_BY_BYTE = np.where(_BITS, 0.0, -np.inf).astype(np.float32)


def sample(logits: torch.Tensor, sequences: Batch[Sequence]) -> list[TokenChunk]:
    """Choose one token for each row.

    Args:
        logits: [num_sequences, vocab_size], float32, unscaled.
        sequences: one a row, in the same order.
    """
    adjusted = _adjust_all(logits, sequences)
    chosen: list[int] = adjusted.argmax(dim=-1).tolist()
    rows = [row for row, sequence in enumerate(sequences) if not _is_greedy(sequence.params)]
    if rows:
        all_random = len(rows) == len(sequences)
        drawn = _draw(adjusted if all_random else adjusted[rows], [sequences[row] for row in rows])
        for row, token_id in zip(rows, drawn, strict=True):
            if token_id is not None:
                chosen[row] = token_id
    logprobs = _find_logprobs(logits, chosen, sequences)
    return [
        TokenChunk(
            sequence_id=sequence.sequence_id,
            token_ids=(token_id,),
            logprobs=logprobs.get(row),
        )
        for row, (token_id, sequence) in enumerate(zip(chosen, sequences, strict=True))
    ]


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
        or sequence.mask is not None
    )


def _forbids_stop(sequence: Sequence) -> bool:
    return bool(sequence.params.stop_token_ids) and (
        sequence.num_output_tokens < sequence.params.min_tokens
    )


def _adjust_all(logits: torch.Tensor, sequences: Batch[Sequence]) -> torch.Tensor:
    rows = [row for row, sequence in enumerate(sequences) if _changes_logits(sequence)]
    if not rows:
        return logits
    # What is reported as log probability is of the logits as they came.
    adjusted = logits.clone()
    for row in rows:
        _adjust(adjusted[row], sequences[row])
    _apply_masks(adjusted, sequences)
    return adjusted


def _apply_masks(logits: torch.Tensor, sequences: Batch[Sequence]) -> None:
    """Leave each guided row the tokens that its mask allows."""
    if all(sequence.mask is None for sequence in sequences):
        return
    # One sum over all rows: a fill by condition costs ten times as much where bits are mixed, and
    # on a CPU each operation is a meeting of all threads.
    num_rows, vocab_size = logits.shape
    num_told = max(8 * sequence.mask.nbytes for sequence in sequences if sequence.mask is not None)
    bias = np.zeros((num_rows, max(vocab_size, num_told)), dtype=np.float32)
    for row, sequence in enumerate(sequences):
        if sequence.mask is not None:
            told = bias[row, : 8 * sequence.mask.nbytes].reshape(-1, 8)
            np.take(_BIAS_BY_BYTE, sequence.mask.view(np.uint8), axis=0, out=told, mode="clip")
            # Models may have rows for tokens that no tokeniser has.
            bias[row, told.size :] = -np.inf
    logits.add_(torch.from_numpy(bias[:, :vocab_size]).to(logits.device))


def _adjust(logits: torch.Tensor, sequence: Sequence) -> None:
    """Apply penalties, bias and the ban on early stop tokens to [vocab_size] in place."""
    params = sequence.params
    if params.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(sequence.token_ids)), device=logits.device)
        values = logits[seen]
        logits[seen] = torch.where(
            values > 0, values / params.repetition_penalty, values * params.repetition_penalty
        )
    outputs = sequence.token_ids[sequence.num_prompt_tokens :]
    if outputs and (params.presence_penalty or params.frequency_penalty):
        generated, counts = torch.unique(
            torch.tensor(outputs, device=logits.device), return_counts=True
        )
        logits[generated] -= params.presence_penalty + params.frequency_penalty * counts
    for token_id, bias in params.logit_bias.items():
        logits[token_id] += bias
    if _forbids_stop(sequence):
        logits[list(params.stop_token_ids)] = -torch.inf


def _draw(logits: torch.Tensor, sequences: Batch[Sequence]) -> list[int | None]:
    """Draw a token for each row; None where the logits are not numbers.

    The whole vocabulary is passed over in few operations on all rows; what is left of it, some
    hundred likely tokens a row, is looked at exactly. Where that does not settle a draw, less
    likely ones are, and at last the row's whole vocabulary.
    """
    temperatures = torch.tensor([sequence.params.temperature for sequence in sequences])
    weights = logits / temperatures.to(logits.device, logits.dtype)[:, None]
    weights.sub_(weights.amax(dim=-1, keepdim=True)).exp_()
    totals = weights.sum(dim=-1, dtype=torch.float64).tolist()
    places = (weights >= _LIKELY).nonzero()
    likely = weights[places[:, 0], places[:, 1]].double().cpu().numpy()
    row_of, token_ids = places.cpu().numpy().T
    bounds = np.searchsorted(row_of, np.arange(len(sequences) + 1))
    drawn: list[int | None] = []
    for row, (sequence, begin, end) in enumerate(
        zip(sequences, bounds[:-1], bounds[1:], strict=True)
    ):
        candidates = _Candidates(token_ids[begin:end], likely[begin:end], totals[row], _LIKELY)
        draw = uniform(sequence.params.seed, sequence.num_output_tokens)
        token_id = candidates.draw(sequence.params, draw)
        for smallest in _TIERS:
            if token_id is None:
                candidates = candidates.widen(weights[row], smallest)
                token_id = candidates.draw(sequence.params, draw)
        drawn.append(token_id)
    return drawn


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The likeliest tokens of a row, in an order that depends on the row alone.

    Attributes:
        token_ids: [num_candidates].
        weights: [num_candidates], float64; the likeliest token's is 1.
        total: weight of the whole vocabulary.
        smallest: every token of at least this weight is among them.
    """

    token_ids: NDArray[np.int64]
    weights: NDArray[np.float64]
    total: float
    smallest: float

    def draw(self, params: SamplingParams, draw: float) -> int | None:
        """Return the token at ``draw``, in [0, 1), of what is kept; None when more are needed."""
        is_filtered = params.top_k > 0 or params.min_p > 0 or params.top_p < 1
        weights = self._filter(params) if is_filtered else self.weights
        if weights is None:
            return None
        cumulative = weights.cumsum()
        if not len(cumulative) or not cumulative[-1] > 0:
            return None
        threshold = draw * (cumulative[-1] if is_filtered else self.total)
        if threshold >= cumulative[-1]:
            if self.smallest:
                return None
            # Rounding lifted it: the last token that has any weight.
            threshold = np.nextafter(cumulative[-1], 0.0)
        # The first token whose cumulative weight exceeds the threshold; never one of weight zero.
        return int(self.token_ids[np.searchsorted(cumulative, threshold, side="right")])

    def _filter(self, params: SamplingParams) -> NDArray[np.float64] | None:
        """Zero all weights but those that are kept; None when that depends on other tokens."""
        weights = self.weights
        # Settled is what is kept once it is known to lie among the candidates.
        is_settled = not self.smallest
        if 0 < params.top_k < len(weights):
            weights = _keep(weights, np.partition(weights, -params.top_k)[-params.top_k])
            is_settled = True
        if params.min_p > 0 and params.min_p >= self.smallest:
            weights = _keep(weights, params.min_p)
            is_settled = True
        if params.top_p < 1:
            # Of what the others leave: if that is not settled, somewhere between these two.
            totals = [weights.sum()] if is_settled else [weights.sum(), self.total]
            if not params.top_k and not params.min_p:
                totals = [self.total]
            num_kept = {_count_first(weights, params.top_p * total) for total in totals}
            if len(num_kept) > 1:
                return None
            first = num_kept.pop()
            if first < len(weights):
                smallest = np.partition(weights, -max(first, 1))[-max(first, 1)]
                return _keep(weights, smallest)
        return weights if is_settled else None

    def widen(self, weights: torch.Tensor, smallest: float) -> _Candidates:
        """Add the tokens that are this likely, behind these, so that a draw means the same."""
        others = ((weights >= smallest) & (weights < self.smallest)).nonzero()[:, 0]
        return _Candidates(
            np.concatenate([self.token_ids, others.cpu().numpy()]),
            np.concatenate([self.weights, weights[others].double().cpu().numpy()]),
            self.total,
            smallest,
        )


def _count_first(weights: NDArray[np.float64], mass: float) -> int:
    """Return how many of the likeliest it takes to reach this mass."""
    ordered = np.sort(weights)[::-1]
    # One stays while the mass before it has not reached the bound: one always does.
    return int((ordered.cumsum() - ordered < mass).sum())


def _keep(weights: NDArray[np.float64], smallest: float) -> NDArray[np.float64]:
    return np.where(weights >= smallest, weights, 0.0)


def uniform(seed: int, position: int) -> float:
    """Return a number in [0, 1) that depends on seed and position alone (Philox, Salmon 2011)."""
    # As unsigned words: from a list of large integers numpy would make floats and round them.
    key = np.array([seed % 2**64, position], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    return float(generator.random())


def _find_logprobs(
    logits: torch.Tensor, token_ids: list[int], sequences: Batch[Sequence]
) -> dict[int, tuple[TokenLogprob, ...]]:
    """Return what was asked for, by row."""
    counts = {
        row: sequence.params.num_logprobs
        for row, sequence in enumerate(sequences)
        if sequence.params.num_logprobs is not None
    }
    if not counts:
        return {}
    rows = logits if len(counts) == len(token_ids) else logits[list(counts)]
    logprobs = torch.log_softmax(rows, dim=-1)
    ids = torch.tensor([[token_ids[row]] for row in counts], device=logits.device)
    chosen: list[float] = logprobs.gather(1, ids)[:, 0].tolist()
    tops = _find_tops(logprobs, counts.values())
    return {
        row: (TokenLogprob(token_id=token_ids[row], logprob=logprob, top=top),)
        for row, logprob, top in zip(counts, chosen, tops, strict=True)
    }


def _find_tops(
    logprobs: torch.Tensor, counts: Collection[int]
) -> list[tuple[tuple[int, float], ...]]:
    """Return so many of the likeliest tokens of each row."""
    # Looking for them takes longer than the log probabilities themselves.
    if not any(counts):
        return [()] * len(counts)
    top = logprobs.topk(max(counts), dim=-1)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [
        tuple(zip(ids[:count], values[:count], strict=True))
        for (ids, values), count in zip(pairs, counts, strict=True)
    ]
