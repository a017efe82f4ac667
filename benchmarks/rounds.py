"""Runs contenders in turn on the same work, and keeps what was measured of each."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.statistics import paired_ratio
from mm_orch.benchmarking.load import run_closed, run_open
from mm_orch.benchmarking.summary import find_unequal_work, summarise
from mm_orch.benchmarking.workloads import DEFAULT_OUTPUT_TOKENS, WorkloadKind, make_workload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from benchmarks.contenders import Running
    from benchmarks.statistics import Ratio
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.benchmarking.workloads import Workload

_WARM_UP_TOKENS = 4
_TRIAL_TURNS = 3
# An engine that has just worked may go on for a while: threads spin before they sleep.
_IDLE_WINDOW_S = 0.3
_IDLE_SHARE = 0.05
_MAX_IDLE_WINDOWS = 15


@dataclass(slots=True)
class Comparison:
    """Rounds of one workload at one load, by contender.

    Attributes:
        faults: why a round must not be compared; a benchmark with any has failed.
        idle_cpu_share: largest share of one core that the waiting contenders took in a run.
        cpu_s: processor time that a contender and all it has started took for each run.
        metered_s: what each meter went up by in each run of each contender.
    """

    summaries: dict[str, list[RunSummary]] = field(default_factory=dict)
    runs: dict[str, list[RunRecord]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    idle_cpu_share: float = 0.0
    cpu_s: dict[str, list[float]] = field(default_factory=dict)
    metered_s: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def median(self, name: str, figure: Callable[[RunSummary], float]) -> float:
        """Return the median of a contender's rounds."""
        return statistics.median(figure(summary) for summary in self.summaries[name])

    def ratio(self, ours: str, theirs: str, figure: Callable[[RunSummary], float]) -> Ratio:
        """Return ours over theirs, round by round."""
        return paired_ratio(
            [figure(summary) for summary in self.summaries[ours]],
            [figure(summary) for summary in self.summaries[theirs]],
        )

    def cpu_s_per_request(self, name: str) -> list[float]:
        """Return the processor time of each answered request, round by round."""
        return [
            cpu_s / max(1, summary.num_requests - summary.num_failed)
            for cpu_s, summary in zip(self.cpu_s[name], self.summaries[name], strict=True)
        ]


def compare(
    running: Sequence[Running],
    workload_of: Callable[[Running, int], Workload],
    *,
    num_rounds: int,
    num_clients: int | None = None,
    rate_per_s: float = 0.0,
    settle_s: float = 0.0,
    meters: Mapping[str, Callable[[], float]] = MappingProxyType({}),
) -> Comparison:
    """Run every contender once a round, in an order that turns round by round.

    Args:
        running: the contenders.
        workload_of: gives a contender's workload in a round; no two rounds may share prompts,
            or a cache would answer the second.
        num_rounds: how often.
        num_clients: of a closed loop; None for an open loop.
        rate_per_s: of the open loop.
        settle_s: what a contender does so long after a run belongs to the run's processor time.
        meters: processor times in s so far, by name, that are no contender's own and read in each
            run.
    """
    comparison = Comparison()
    for number in range(num_rounds):
        order = list(running) if number % 2 == 0 else list(reversed(running))
        round_runs: dict[str, RunRecord] = {}
        for one in order:
            workload = workload_of(one, number)
            load = (
                run_closed(one.target, workload, num_clients)
                if num_clients
                else run_open(one.target, workload, rate_per_s=rate_per_s, seed=number)
            )
            wait_until_idle(running)
            before_s = {name: read() for name, read in meters.items()}
            run, cpu_s, idle = _watched(one, running, load, settle_s)
            metered_s = comparison.metered_s.setdefault(one.contender.name, {})
            for name, read in meters.items():
                metered_s.setdefault(name, []).append(read() - before_s[name])
            comparison.idle_cpu_share = max(comparison.idle_cpu_share, idle)
            comparison.cpu_s.setdefault(one.contender.name, []).append(cpu_s)
            round_runs[one.contender.name] = run
            comparison.runs.setdefault(one.contender.name, []).append(run)
            summary = summarise(run)
            comparison.summaries.setdefault(one.contender.name, []).append(summary)
            _tell(number, one.contender.name, summary, idle)
        faults = find_unequal_work(round_runs)
        comparison.faults += [f"round {number + 1}: {fault}" for fault in faults]
    return comparison


def short_chats(
    num_clients: int,
    num_requests: int,
    count_tokens: CountTokens,
    num_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> Callable[[Running, int], Workload]:
    """Return what gives each round short chats of its own, for all contenders the same."""

    def workload(_: Running, number: int) -> Workload:
        return make_workload(
            WorkloadKind.SHORT_CHAT,
            num_requests,
            seed=number * 1000 + num_clients,
            count_tokens=count_tokens,
            num_output_tokens=num_output_tokens,
        )

    return workload


def size_run(
    one: Running,
    num_clients: int,
    count_tokens: CountTokens,
    run_s: float,
    num_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> int:
    """Return how many short chats so many clients get answered in a time, as a trial tells."""
    num_requests = _TRIAL_TURNS * num_clients
    # Its seed is that of no round.
    trial = short_chats(num_clients, num_requests, count_tokens, num_output_tokens)(one, -1)
    summary = summarise(asyncio.run(run_closed(one.target, trial, num_clients)))
    # As many for each client, so that few wait for the last.
    return num_clients * max(1, round(run_s * summary.requests_per_s / num_clients))


def warm_up(
    running: Sequence[Running],
    kind: WorkloadKind,
    count_tokens: CountTokens,
    levels: Sequence[int] = (1, 8),
) -> None:
    """Let each contender answer a few requests, so that nothing is compiled in a round."""
    for one in running:
        for num_clients in levels:
            workload = make_workload(
                kind,
                num_clients,
                seed=-num_clients,
                count_tokens=count_tokens,
                num_output_tokens=_WARM_UP_TOKENS,
            )
            run = asyncio.run(run_closed(one.target, workload, num_clients))
            errors = [record.error for record in run.requests if record.error]
            if errors:
                message = f"{one.contender.name} fails: {errors[0]}"
                raise RuntimeError(message)


def wait_until_idle(running: Sequence[Running]) -> None:
    """Wait until nobody computes any more, a few seconds at most."""

    def cpu_s() -> float:
        return sum(one.process.cpu_s for one in running)

    for _ in range(_MAX_IDLE_WINDOWS):
        before_s = cpu_s()
        time.sleep(_IDLE_WINDOW_S)
        if cpu_s() - before_s <= _IDLE_SHARE * _IDLE_WINDOW_S:
            return


def _watched(
    one: Running, running: Sequence[Running], load: Awaitable[RunRecord], settle_s: float
) -> tuple[RunRecord, float, float]:
    """Return the run, the processor time it took, and what the others took of one core."""
    others = [other.process for other in running if other is not one]

    async def wait() -> RunRecord:
        return await load

    others_before_s = sum(process.cpu_s for process in others)
    before_s = one.process.cpu_s
    run = asyncio.run(wait())
    time.sleep(settle_s)
    cpu_s = one.process.cpu_s - before_s
    idle_s = sum(process.cpu_s for process in others) - others_before_s
    return run, cpu_s, idle_s / (run.wall_s + settle_s) if run.wall_s else 0.0


def _tell(number: int, name: str, summary: RunSummary, idle: float) -> None:
    print(
        f"round {number + 1}: {summary.workload}, {summary.load}, {name}:"
        f" {summary.requests_per_s:.3f} requests/s, {summary.output_tokens_per_s:.1f} tokens/s,"
        f" TTFT {summary.ttft.p50_s:.3f} s, p95 {summary.total.p95_s:.2f} s,"
        f" cached {summary.cached_share:.0%}, failed {summary.num_failed},"
        f" generator {summary.generator_ms_per_token:.3f} ms/token, others {idle:.0%} of a core",
        file=sys.stderr,
        flush=True,
    )
