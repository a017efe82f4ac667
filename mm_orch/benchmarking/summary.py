"""Makes a few figures of a run, and says whether runs may be compared."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.benchmarking.objective import Objective
    from mm_orch.benchmarking.records import RequestRecord, RunRecord

_MAX_SHOWN_FAULTS = 5
_PERCENT = 100


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity over many requests, in seconds; all 0 where nothing was measured."""

    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0

    @classmethod
    def of(cls, values_s: Sequence[float]) -> Spread:
        """Take the percentiles (the nearest value above, so that p99 of few is the largest)."""
        if not values_s:
            return cls()
        ordered = sorted(values_s)
        return cls(
            p50_s=statistics.median(ordered),
            p95_s=_nearest(ordered, 95),
            p99_s=_nearest(ordered, 99),
            max_s=ordered[-1],
        )


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in figures.

    Attributes:
        gap: between pieces of text as they arrived.
        time_per_token: of each request, (end - first text) / (tokens - 1).
        cached_share: of all prompt tokens.
        generator_ms_per_token: processor time of the load generator for each output token.
        num_turned_away: of the failed ones, those that the server refused as too much.
        num_good: requests that met the objective; None where there is none.
        is_cache_told: the server states which tokens came from its cache.
        offered_per_s: sessions that were due, a second; None in a closed loop.
        late: how much later than due requests were sent, by the load generator's own fault.
    """

    workload: str
    load: str
    num_requests: int
    num_failed: int
    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int
    wall_s: float
    ttft: Spread
    gap: Spread
    time_per_token: Spread
    total: Spread
    generator_ms_per_token: float
    num_turned_away: int = 0
    num_good: int | None = None
    is_cache_told: bool = True
    offered_per_s: float | None = None
    late: Spread = Spread()

    @property
    def good_share(self) -> float | None:
        """Share of all requests, failed ones too, that met the objective."""
        return None if self.num_good is None else _ratio(self.num_good, self.num_requests)

    @property
    def goodput_per_s(self) -> float | None:
        """Requests that met the objective, a second."""
        return None if self.num_good is None else _ratio(self.num_good, self.wall_s)

    @property
    def requests_per_s(self) -> float:
        """Requests that were answered, a second."""
        return _ratio(self.num_requests - self.num_failed, self.wall_s)

    @property
    def output_tokens_per_s(self) -> float:
        """Generated tokens a second, prompts and waiting included in the time."""
        return _ratio(self.num_output_tokens, self.wall_s)

    @property
    def cached_share(self) -> float:
        """Share of the prompt tokens that came out of the server's cache."""
        return _ratio(self.num_cached_tokens, self.num_prompt_tokens)


class TurnSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The same turn of every conversation of a run.

    Attributes:
        turn: from 1.
        num_prompt_tokens: of all these requests, the history among them; and so the next.
        num_cached_tokens: of those, taken from the server's cache.
    """

    turn: int
    ttft: Spread
    num_prompt_tokens: int
    num_cached_tokens: int

    @property
    def cached_share(self) -> float:
        """Share of the prompt tokens that came out of the server's cache."""
        return _ratio(self.num_cached_tokens, self.num_prompt_tokens)


def summarise_turns(run: RunRecord) -> tuple[TurnSummary, ...]:
    """Return a summary of each turn, of the requests that were answered."""
    by_turn: dict[int, list[RequestRecord]] = {}
    for record in run.requests:
        if record.error is None:
            by_turn.setdefault(record.turn, []).append(record)
    return tuple(
        TurnSummary(
            turn=turn + 1,
            ttft=Spread.of([r.ttft_s for r in records if r.ttft_s is not None]),
            num_prompt_tokens=sum(record.num_prompt_tokens for record in records),
            num_cached_tokens=sum(record.num_cached_tokens for record in records),
        )
        for turn, records in sorted(by_turn.items())
    )


def summarise(run: RunRecord, objective: Objective | None = None) -> RunSummary:
    """Return a run's figures; times are those of the requests that were answered."""
    answered = [record for record in run.requests if record.error is None]
    num_output_tokens = sum(record.num_output_tokens for record in answered)
    return RunSummary(
        workload=run.workload,
        load=run.load,
        num_requests=len(run.requests),
        num_failed=len(run.requests) - len(answered),
        num_prompt_tokens=sum(record.num_prompt_tokens for record in answered),
        num_output_tokens=num_output_tokens,
        num_cached_tokens=sum(record.num_cached_tokens for record in answered),
        wall_s=run.wall_s,
        ttft=Spread.of([r.ttft_s for r in answered if r.ttft_s is not None]),
        gap=Spread.of([gap_s for record in answered for gap_s in record.gaps_s]),
        time_per_token=Spread.of(
            [r.time_per_token_s for r in answered if r.time_per_token_s is not None]
        ),
        total=Spread.of([record.total_s for record in answered]),
        generator_ms_per_token=_ratio(run.generator_cpu_s * 1000, num_output_tokens),
        num_turned_away=sum(record.is_turned_away for record in run.requests),
        num_good=sum(map(objective.is_met_by, run.requests)) if objective else None,
        is_cache_told=any(record.is_cache_told for record in answered),
        offered_per_s=run.offered_per_s,
        late=Spread.of([record.late_s for record in run.requests if record.turn == 0]),
    )


def find_unequal_work(run_by_name: Mapping[str, RunRecord]) -> list[str]:
    """Return why these runs of one workload must not be compared; empty when they may.

    Each request must have been answered, with equally many generated tokens in every run. A run
    that holds fewer sessions than another is held against those that both have.
    """
    faults = [
        f"{name}: session {record.session} turn {record.turn} failed: {record.error}"
        for name, run in run_by_name.items()
        for record in run.requests
        if record.error is not None
    ]
    expected: dict[tuple[int, int], tuple[str, int]] = {}
    for name, run in run_by_name.items():
        if not run.requests:
            faults.append(f"{name}: no request was sent")
        for record in run.requests:
            if record.error is not None:
                continue
            first, num_tokens = expected.setdefault(
                (record.session, record.turn), (name, record.num_output_tokens)
            )
            if num_tokens != record.num_output_tokens:
                faults.append(
                    f"session {record.session} turn {record.turn}: {first} generated {num_tokens}"
                    f" tokens, {name} {record.num_output_tokens}"
                )
    num_more = len(faults) - _MAX_SHOWN_FAULTS
    more = [f"and {num_more} more"] if num_more > 0 else []
    return faults[:_MAX_SHOWN_FAULTS] + more


def _nearest(ordered: Sequence[float], percent: int) -> float:
    rank = -(-percent * len(ordered) // _PERCENT)
    return ordered[max(rank - 1, 0)]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
