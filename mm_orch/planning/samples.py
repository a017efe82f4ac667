"""What answers of a measured server tell of its steps, and the costs that explain it best."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.planning.costs import NUM_EARLY, MeasuredCosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.records import RequestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A measured time and the work it stands for: of one step, or the mean of several.

    Attributes:
        duration_s: of the step, or to a request's first token.
        is_first: to a first token, so that what the server adds is in it.
        num_requests: that began.
        num_decoding, num_keys, num_prompt_tokens, num_pairs: as StepCosts takes them.
        num_early_decoding, num_early_tokens: of those, the first ones of each step.
        num_held_tokens: of the prompt, that the server had from before.
    """

    duration_s: float
    is_first: bool = False
    num_requests: float = 0
    num_decoding: float = 0
    num_keys: float = 0
    num_prompt_tokens: float = 0
    num_early_decoding: float = 0
    num_early_tokens: float = 0
    num_held_tokens: int = 0
    num_pairs: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredServer:
    """What a server costs.

    Attributes:
        overhead_s: added to each request beside its steps.
        num_template_tokens: that the server holds of any prompt, because all begin alike.
        residual_ratio: median distance of the samples from the costs, as a share of them.
    """

    costs: MeasuredCosts
    overhead_s: float
    num_template_tokens: int
    residual_ratio: float
    samples: tuple[Sample, ...]


def samples_of(records: Sequence[RequestRecord]) -> list[Sample]:
    """Return the samples of requests that were sent together.

    The time between tokens is taken while all of them generate.
    """
    begin_s = max(record.pieces_s[0] for record in records)
    end_s = min(record.pieces_s[-1] for record in records)
    gaps_s = [
        after_s - before_s
        for record in records
        for before_s, after_s in pairwise(record.pieces_s)
        if before_s >= begin_s and after_s <= end_s
    ]
    num_tokens = statistics.fmean(one.num_prompt_tokens for one in records)
    num_output = statistics.fmean(one.num_output_tokens for one in records)
    samples = []
    if gaps_s:
        samples.append(
            Sample(
                duration_s=statistics.fmean(gaps_s),
                num_decoding=len(records),
                num_keys=len(records) * (num_tokens + num_output / 2),
                num_early_decoding=min(len(records), NUM_EARLY),
            )
        )
    [first, *others] = records
    if not others and first.ttft_s is not None:
        num_new = _num_new_tokens(first)
        samples.append(
            Sample(
                duration_s=first.ttft_s,
                is_first=True,
                num_requests=1,
                num_prompt_tokens=num_new,
                num_early_tokens=min(num_new, NUM_EARLY),
                num_held_tokens=first.num_cached_tokens,
                num_pairs=_num_pairs(first),
            )
        )
    return samples


def beside_sample_of(records: Sequence[RequestRecord]) -> list[Sample]:
    """Return the mean step of the first answer while the others come, are computed and end.

    Each piece of a long answer is a step, so that they count the steps which the others' tokens
    and prompts share. A step took in part of a prompt if it began after the prompt came, and
    ended by its first token.

        long answer   |-----|-----|-----|-----|-----|-----|
        other            ^came             ^first  ^next
        taken in part       |==== two steps ===|
    """
    lasting, *others = records
    begin_s = lasting.pieces_s[0]
    last_s = min(lasting.pieces_s[-1], max(one.pieces_s[-1] for one in others))
    steps = [step for step in pairwise(lasting.pieces_s) if step[1] <= last_s]
    if not steps:
        return []
    end_s = steps[-1][1]
    # Whose first token came by the first step had their prompts taken in before it.
    came = [one for one in others if steps[0][1] < one.pieces_s[0] <= end_s]
    num_prompt_tokens = sum(map(_num_new_tokens, came))
    has_prompt = [
        any(one.begin_s <= before_s and after_s <= one.pieces_s[0] for one in came)
        for before_s, after_s in steps
    ]
    decoded = [_count_pieces(records, *step) for step in steps]
    num_early_tokens = min(num_prompt_tokens, NUM_EARLY * sum(has_prompt))
    return [
        Sample(
            duration_s=(end_s - begin_s) / len(steps),
            num_requests=len(came) / len(steps),
            num_decoding=statistics.fmean(decoded),
            num_keys=sum(_count_keys(one, begin_s, end_s) for one in records) / len(steps),
            num_prompt_tokens=num_prompt_tokens / len(steps),
            num_early_decoding=statistics.fmean(min(count, NUM_EARLY) for count in decoded),
            num_early_tokens=num_early_tokens / len(steps),
            num_pairs=sum(map(_num_pairs, came)) / len(steps),
        )
    ]


def _places(record: RequestRecord, begin_s: float, end_s: float) -> range:
    """Which of a record's tokens came then, by decoding: its first one came of its prompt."""
    first = max(1, bisect_right(record.pieces_s, begin_s))
    return range(first, max(first, bisect_right(record.pieces_s, end_s)))


def _count_pieces(records: Sequence[RequestRecord], begin_s: float, end_s: float) -> int:
    return sum(len(_places(one, begin_s, end_s)) for one in records)


def _count_keys(record: RequestRecord, begin_s: float, end_s: float) -> int:
    return sum(record.num_prompt_tokens + place for place in _places(record, begin_s, end_s))


def _num_new_tokens(record: RequestRecord) -> int:
    return record.num_prompt_tokens - record.num_cached_tokens


def _num_pairs(record: RequestRecord) -> float:
    num_new = _num_new_tokens(record)
    return num_new * (record.num_cached_tokens + num_new / 2)


def fit_samples(samples: Sequence[Sample]) -> MeasuredServer:
    """Return the costs with the least squares of the relative error; none of them is below 0."""
    durations_s = np.array([sample.duration_s for sample in samples])
    sizes = np.array(
        [
            (
                1.0,
                one.num_decoding,
                one.num_keys,
                one.num_prompt_tokens,
                one.num_early_decoding,
                one.num_early_tokens,
                one.num_pairs,
                one.num_requests,
                one.is_first,
            )
            for one in samples
        ]
    )
    costs_s = np.zeros(sizes.shape[1])
    kept = np.arange(sizes.shape[1])
    while kept.size:
        rows = sizes[:, kept] / durations_s[:, None]
        found, *_ = np.linalg.lstsq(rows, np.ones(len(samples)), rcond=None)
        if (found >= 0).all():
            costs_s[kept] = found
            break
        # What noise has made negative is nothing.
        kept = np.delete(kept, int(np.argmin(found * np.abs(rows).mean(axis=0))))
    *costs, overhead_s = map(float, costs_s)
    names = (
        *("fixed_s", "per_sequence_s", "per_key_s", "per_prompt_token_s"),
        *("per_early_sequence_s", "per_early_token_s", "per_pair_s", "per_request_s"),
    )
    residuals = np.abs(sizes @ costs_s / durations_s - 1)
    return MeasuredServer(
        costs=MeasuredCosts(**dict(zip(names, costs, strict=True))),
        overhead_s=overhead_s,
        num_template_tokens=min(
            (one.num_held_tokens for one in samples if one.is_first), default=0
        ),
        residual_ratio=float(np.median(residuals)),
        samples=tuple(samples),
    )
