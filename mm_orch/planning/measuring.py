"""Measures what steps of a running server take, over HTTP: twenty requests or so, a short minute.

Prompts of several lengths, asked for alone, tell by their first token what a server adds to a
request and what prompts cost; clients that ask together tell by the time between their tokens what
a step takes at each number of them.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.benchmarking.load import failures_of, run_closed
from mm_orch.benchmarking.workloads import make_length_workload
from mm_orch.core.errors import NoServerError
from mm_orch.planning.costs import MeasuredCosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.plan import Progress
    from mm_orch.benchmarking.records import RequestRecord
    from mm_orch.benchmarking.vocabulary import CountTokens

CLIENTS = (1, 2, 4, 8, 16, 32)
PROMPT_TOKENS = (16, 64, 160, 400)
_SHORT_PROMPT = 16
_OUTPUT_TOKENS = 40
_LONG_OUTPUT_TOKENS = 24
_SEED = 7_000

Stage = tuple[int, int, int]
"""Clients at once, and the tokens of their prompts and answers."""

_STAGES: tuple[Stage, ...] = (
    *((1, length, _LONG_OUTPUT_TOKENS) for length in PROMPT_TOKENS),
    *((num_clients, _SHORT_PROMPT, _OUTPUT_TOKENS) for num_clients in CLIENTS),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A measured time and the work it stands for.

    Attributes:
        is_first: to a request's first token, so that what the server adds is in it.
        num_decoding, num_keys, num_prompt_tokens, num_pairs: as StepCosts takes them.
    """

    is_first: bool
    num_decoding: int
    num_keys: float
    num_prompt_tokens: int
    num_pairs: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredServer:
    """What a server costs.

    Attributes:
        overhead_s: added to each request beside its steps.
        residual_ratio: median distance of the samples from the plane, as a share of them.
    """

    costs: MeasuredCosts
    overhead_s: float
    residual_ratio: float
    samples: tuple[Sample, ...]


def measure_server(
    target: Target, count_tokens: CountTokens, progress: Progress, *, num_rounds: int = 2
) -> MeasuredServer:
    """Send prompts, and return what steps take.

    Args:
        target: a server that does nothing else meanwhile.
        count_tokens: by the tokeniser of its model.
        progress: told of each request.
        num_rounds: how often everything is asked, each time with prompts of its own.

    Raises:
        NoServerError: a request failed.
    """
    # Not counted: it sets up what later rounds use.
    take_samples(target, count_tokens, progress, number=-1, stages=_STAGES[-2:])
    return fit_samples(
        [
            sample
            for number in range(num_rounds)
            for sample in take_samples(target, count_tokens, progress, number=number)
        ]
    )


def take_samples(
    target: Target,
    count_tokens: CountTokens,
    progress: Progress,
    *,
    number: int,
    stages: Sequence[Stage] = _STAGES,
) -> list[Sample]:
    """Ask everything once; see measure_server.

    Args:
        target: a server that does nothing else meanwhile, and has been warmed up.
        count_tokens: by the tokeniser of its model.
        progress: told of each request.
        number: each has prompts of its own.
        stages: what is asked.

    Raises:
        NoServerError: a request failed.
    """
    return [
        sample
        for stage in stages
        for sample in samples_of(_ask(target, count_tokens, progress, stage, number))
    ]


def _ask(
    target: Target,
    count_tokens: CountTokens,
    progress: Progress,
    stage: Stage,
    number: int,
) -> Sequence[RequestRecord]:
    num_clients, length, num_output = stage
    workload = make_length_workload(
        length,
        num_output,
        num_clients,
        seed=_SEED + 100 * number + num_clients,
        count_tokens=count_tokens,
    )
    progress.start(f"{num_clients} at once, prompts of {length}", num_clients)
    try:
        run = asyncio.run(
            run_closed(target, workload, num_clients, on_done=lambda _: progress.advance(1))
        )
    finally:
        progress.finish()
    faults = failures_of([run])
    if faults:
        raise NoServerError(f"{target.url} cannot be measured: {faults[0]}.")
    return run.requests


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
    num_keys = len(records) * (num_tokens + num_output / 2)
    samples = []
    if gaps_s:
        samples.append(Sample(False, len(records), num_keys, 0, 0, statistics.fmean(gaps_s)))  # noqa: FBT003 - no first token
    [first, *others] = records
    if not others and first.ttft_s is not None:
        num_new = first.num_prompt_tokens - first.num_cached_tokens
        num_pairs = num_new * (first.num_cached_tokens + num_new / 2)
        samples.append(Sample(True, 0, 0, num_new, num_pairs, first.ttft_s))  # noqa: FBT003 - a first token
    return samples


def fit_samples(samples: Sequence[Sample]) -> MeasuredServer:
    """Return the plane with the least squares of the relative error; no part of it is below 0."""
    durations_s = np.array([sample.duration_s for sample in samples])
    sizes = np.array(
        [
            (
                1.0,
                one.num_decoding,
                one.num_keys,
                one.num_prompt_tokens,
                one.num_pairs,
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
    fixed_s, per_sequence_s, per_key_s, per_prompt_token_s, per_pair_s, overhead_s = map(
        float, costs_s
    )
    residuals = np.abs(sizes @ costs_s / durations_s - 1)
    return MeasuredServer(
        costs=MeasuredCosts(
            fixed_s=fixed_s,
            per_sequence_s=per_sequence_s,
            per_prompt_token_s=per_prompt_token_s,
            per_key_s=per_key_s,
            per_pair_s=per_pair_s,
        ),
        overhead_s=overhead_s,
        residual_ratio=float(np.median(residuals)),
        samples=tuple(samples),
    )
