"""Makes a few figures of a simulation's outcome."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

from mm_orch.benchmarking.records import RequestRecord
from mm_orch.benchmarking.summary import Spread

if TYPE_CHECKING:
    from mm_orch.benchmarking.objective import Objective
    from mm_orch.planning.simulation.system import Outcome
    from mm_orch.planning.simulation.work import Request


class SimulationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What clients and replicas saw.

    Attributes:
        num_requests: that came, refused ones too; the first ones left out, as in all but
            ``busy_ratio`` and what follows it.
        num_refused: of them.
        good_ratio: share of them that kept the objective; None without one.
        requests_per_s: answered, from the first arrival to the last end.
        time_per_token: of each request, (end - first token) / (tokens - 1).
        cached_ratio: share of prompt tokens that needed no computing.
        busy_ratio: mean over the replicas of the time in which they computed.
        imbalance: the busiest replica's time over the mean.
        prompt_ratio: share of the busy time in steps that took in prompts.
        batch_size: sequences in a step, on average.
        full_ratio: share of steps that left somebody waiting.
        num_moves: requests that a death sent elsewhere, each time counted.
    """

    num_requests: int
    num_refused: int
    good_ratio: float | None
    requests_per_s: float
    output_tokens_per_s: float
    ttft: Spread
    time_per_token: Spread
    total: Spread
    cached_ratio: float
    busy_ratio: float
    imbalance: float
    prompt_ratio: float
    batch_size: float
    full_ratio: float
    num_preempted: int
    num_deaths: int
    num_moves: int


def record_of(request: Request) -> RequestRecord:
    """Return a request as a client would have noted it; of its tokens, the first and the last."""
    end_s = request.arrived_s if request.ended_s is None else request.ended_s
    pieces = () if request.first_token_s is None else (request.first_token_s, end_s)
    reason = request.refused_because
    return RequestRecord(
        session=request.session,
        turn=request.turn,
        begin_s=request.arrived_s,
        pieces_s=pieces,
        end_s=end_s,
        num_prompt_tokens=request.num_prompt_tokens,
        num_output_tokens=request.num_output_tokens if reason is None else 0,
        num_cached_tokens=request.num_reused,
        is_cache_told=True,
        error=None if reason is None else reason.value,
        is_turned_away=reason is not None,
    )


def summarise(
    outcome: Outcome, objective: Objective | None = None, *, since_s: float = 0.0
) -> SimulationSummary:
    """Return the figures of an outcome.

    Args:
        outcome: in which at least one request came.
        objective: that requests should keep.
        since_s: requests that came before, to an idle system, do not count.
    """
    counted = [one for one in outcome.requests if one.arrived_s >= since_s]
    counted = counted or outcome.requests
    records = [record_of(request) for request in counted]
    answered = [record for record in records if record.error is None]
    span_s = outcome.ended_s - counted[0].arrived_s
    counts = [replica.counts for replica in outcome.replicas]
    busy_s = [one.busy_s for one in counts]
    mean_busy_s = statistics.fmean(busy_s)
    num_steps = sum(one.num_steps for one in counts)
    return SimulationSummary(
        num_requests=len(records),
        num_refused=len(records) - len(answered),
        good_ratio=sum(map(objective.is_met_by, records)) / len(records) if objective else None,
        requests_per_s=_ratio(len(answered), span_s),
        output_tokens_per_s=_ratio(sum(one.num_output_tokens for one in answered), span_s),
        ttft=Spread.of([one.ttft_s for one in answered if one.ttft_s is not None]),
        time_per_token=Spread.of(
            [one.time_per_token_s for one in answered if one.time_per_token_s is not None]
        ),
        total=Spread.of([one.total_s for one in answered]),
        cached_ratio=_ratio(
            sum(one.num_cached_tokens for one in answered),
            sum(one.num_prompt_tokens for one in answered),
        ),
        busy_ratio=_ratio(mean_busy_s, outcome.ended_s),
        imbalance=_ratio(max(busy_s), mean_busy_s),
        prompt_ratio=_ratio(sum(one.prompt_s for one in counts), sum(busy_s)),
        batch_size=_ratio(sum(one.num_batched for one in counts), num_steps),
        full_ratio=_ratio(sum(one.num_full_steps for one in counts), num_steps),
        num_preempted=sum(one.num_preempted for one in counts),
        num_deaths=outcome.num_deaths,
        num_moves=sum(request.num_moves for request in outcome.requests),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
