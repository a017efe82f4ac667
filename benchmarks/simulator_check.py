"""The simulator against the real server on this machine, at loads that nothing was fitted to.

usage: python -m benchmarks.simulator_check [--runs N] [--seconds N] [--shares X ...]

fit       a server is measured as ``muai --plan --url`` measures one: lone prompts, and clients
          that ask together, all of one length
capacity  requests a second that 24 clients get answered on the chats of the check
check     chats of mixed lengths and conversations come at random (Poisson) at shares of that;
          the same requests at the same times go through the server and through the simulator

All of it is done once a round, and a run is simulated with what was fitted before and after its
round: a machine that others use too does not stay as fast as it was. The requests of a load are the
same in each round but for their words; figures are told as at the median capacity of all rounds, so
what is left of the server's range over its runs is its own.

At each load the median of the runs of both must be near: throughput and p95 within 15%, or within
that range where it is wider. With the defaults there are seven loads of five runs: 22 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.contenders import counter_of, find_model, our_server, run_all
from benchmarks.results_file import report, write_table
from benchmarks.rounds import wait_until_idle, warm_up
from benchmarks.server_calls import models_of
from benchmarks.simulated_runs import Run, figures_of, simulate_run, tell_fit
from benchmarks.statistics import Verdict
from benchmarks.tuner_loads import make_chats
from mm_orch.benchmarking.load import arrival_times, failures_of, run_at, run_closed
from mm_orch.benchmarking.summary import summarise
from mm_orch.benchmarking.workloads import WorkloadKind, make_workload
from mm_orch.cli.progress import make_progress
from mm_orch.planning.measuring import take_samples
from mm_orch.planning.samples import fit_samples
from mm_orch.planning.simulation.limits import ReplicaLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders import Running
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.benchmarking.workloads import Workload
    from mm_orch.planning.samples import MeasuredServer, Sample

_TOLERANCE = 0.15
_CAPACITY_CLIENTS = 24
_CAPACITY_CHATS = 48
_NUM_TURNS = 4
_OUTPUT_TOKENS = 32
# Enough for all that run at once. More is filled with prompts that never come again, and the kernel
# of a virtual machine that looks through all memory in use slows every process down with it.
_KV_MB = 400
_BLOCK_TOKENS = 16
_CONVERSATION_SHARES = (0.3, 0.6)
_SHARES = (0.3, 0.45, 0.6, 0.7, 0.8)
FIGURES = ("requests_per_s", "p95_s", "ttft_p95_s")
_JUDGED = FIGURES[:2]
_KINDS = ("chats", "conversations")
_MIN_SESSIONS = 6
# Sessions are as many in each round, whatever the capacity; a machine of the kind serves about
# so many requests a second.
_NOMINAL_PER_S = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A load of the check.

    Attributes:
        name: in the results.
        kind: chats, or conversations.
        share: of the capacity.
    """

    name: str
    kind: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One figure of a level: the server's runs, and the simulator's of the same requests."""

    level: str
    figure: str
    real: tuple[float, ...]
    simulated: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The simulator's median over the server's."""
        return statistics.median(self.simulated) / statistics.median(self.real)

    @property
    def verdict(self) -> Verdict:
        """Whether the simulator is as near as it has to be."""
        is_near = abs(self.ratio - 1) <= _TOLERANCE
        is_in_range = min(self.real) <= statistics.median(self.simulated) <= max(self.real)
        return Verdict.MET if is_near or is_in_range else Verdict.MISSED

    @property
    def row(self) -> list[object]:
        """What the table says of it."""
        return [
            self.level,
            self.figure,
            round(statistics.median(self.real), 3),
            f"{min(self.real):.3f} to {max(self.real):.3f}",
            round(statistics.median(self.simulated), 3),
            round(self.ratio, 3),
            self.verdict.value if self.figure in _JUDGED else "",
        ]


def main() -> int:
    """Measure, simulate, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=18.0, help="for which requests come")
    parser.add_argument("--shares", type=float, nargs="+", default=list(_SHARES))
    options = parser.parse_args()
    begin_s, model = time.monotonic(), find_model()
    contender = our_server(
        "muai",
        model=model.name,
        model_settings={"source": f"path:{model.directory}"},
        optimization={"engine_preference": ["pytorch"], "cache": {"max_memory_mb": _KV_MB}},
        precision="auto",
        note="pytorch",
    )
    levels = _levels(options.shares)
    with run_all([contender]) as [one]:
        warm_up([one], WorkloadKind.SHORT_CHAT, counter_of(model), levels=(1, 8, 32))
        bench = _Bench(one, counter_of(model), options.seconds)
        rounds = [bench.measure(levels, number) for number in range(options.runs)]
        servers = bench.fit_all()
        limits = _limits_of(one)
    pairs = _compare(levels, rounds, servers, limits, counter_of(model))
    head = ("load", "figure", "server", "its range", "simulator", "ratio", "verdict")
    print(write_table("simulator_check", head, [pair.row for pair in pairs]))
    verdicts = {
        f"{pair.level}: {pair.figure}": pair.verdict for pair in pairs if pair.figure in _JUDGED
    }
    figures = {
        "fits": [tell_fit(server) for server in servers],
        "capacities_per_s": [
            {kind: round(rate, 3) for kind, rate in one.capacity_per_s.items()} for one in rounds
        ],
        "runs": options.runs,
        "seconds": options.seconds,
        "levels": [
            {
                "level": pair.level,
                "figure": pair.figure,
                "server": [round(value, 4) for value in pair.real],
                "simulator": [round(value, 4) for value in pair.simulated],
                "ratio": round(pair.ratio, 3),
            }
            for pair in pairs
        ],
        "minutes": round((time.monotonic() - begin_s) / 60, 1),
    }
    return report("simulator_check", figures, bench.faults, verdicts)


def _limits_of(one: Running) -> ReplicaLimits:
    [model] = models_of(one.process.port)
    return ReplicaLimits(kv_tokens=model["cache"]["num_target_blocks"] * _BLOCK_TOKENS)


def _levels(shares: Sequence[float]) -> list[Level]:
    chats = [Level(name=f"chats at {share:g}", kind="chats", share=share) for share in shares]
    conversations = [
        Level(name=f"conversations at {share:g}", kind="conversations", share=share)
        for share in _CONVERSATION_SHARES
    ]
    return chats + conversations


@dataclass(frozen=True, slots=True)
class Round:
    """One run of each level, and how fast the machine was then.

    Attributes:
        capacity_per_s: requests, by kind of level.
        runs: by the level's name.
    """

    capacity_per_s: dict[str, float]
    runs: dict[str, Run]


class _Bench:
    """A server, and what it was measured to take again and again."""

    def __init__(self, one: Running, count_tokens: CountTokens, seconds: float) -> None:
        self.faults: list[str] = []
        self._one = one
        self._count_tokens = count_tokens
        self._seconds = seconds
        # One before each round.
        self._samples: list[list[Sample]] = []

    def measure(self, levels: Sequence[Level], number: int) -> Round:
        """Measure the server, its capacity, and each level once."""
        self._take_samples()
        capacity_per_s = {kind: self._find_capacity(kind, number) for kind in _KINDS}
        runs = {}
        for level in levels:
            rate_per_s = level.share * capacity_per_s[level.kind]
            workload, times_s = self._draw(level, rate_per_s, number)
            wait_until_idle([self._one])
            record = asyncio.run(run_at(self._one.target, workload, times_s, words=level.name))
            self.faults += failures_of([record])
            runs[level.name] = Run(workload, times_s, record)
            print(level.name, number, figures_of(record), file=sys.stderr, flush=True)
        return Round(capacity_per_s, runs)

    def fit_all(self) -> list[MeasuredServer]:
        """Return what the server took in each round: as measured before it and after it."""
        self._take_samples()
        return [
            fit_samples([*before, *after]) for before, after in itertools.pairwise(self._samples)
        ]

    def _take_samples(self) -> None:
        number = len(self._samples)
        self._samples.append(
            take_samples(self._one.target, self._count_tokens, make_progress(), number=number)
        )

    def _draw(self, level: Level, rate_per_s: float, number: int) -> tuple[Workload, list[float]]:
        """Return sessions and when they are due; a conversation counts with its turns.

        A level's numbers and lengths are the same in each round, its words and its pace are not.
        """
        session_rate = level.share / (_NUM_TURNS if level.kind == "conversations" else 1)
        seed = round(level.share * 1000)
        num_sessions = max(_MIN_SESSIONS, round(session_rate * self._seconds * _NOMINAL_PER_S))
        workload = self._make(level.kind, num_sessions, seed, number)
        unit_s = arrival_times(num_sessions, rate_per_s=session_rate, seed=seed)
        capacity_per_s = rate_per_s / level.share
        return workload, [due_s / capacity_per_s for due_s in unit_s]

    def _make(self, kind: str, num_sessions: int, seed: int, number: int) -> Workload:
        if kind == "chats":
            return make_chats(
                num_sessions, seed=seed, count_tokens=self._count_tokens, texts=number
            )
        return make_workload(
            WorkloadKind.CONVERSATIONS,
            num_sessions,
            seed=100 * seed + number,
            count_tokens=self._count_tokens,
            num_output_tokens=_OUTPUT_TOKENS,
            num_turns=_NUM_TURNS,
        )

    def _find_capacity(self, kind: str, number: int) -> float:
        num_turns = _NUM_TURNS if kind == "conversations" else 1
        workload = self._make(kind, _CAPACITY_CHATS // num_turns, -1, number)
        summary = summarise(
            asyncio.run(run_closed(self._one.target, workload, _CAPACITY_CLIENTS // num_turns))
        )
        return summary.requests_per_s


def _compare(
    levels: Sequence[Level],
    rounds: Sequence[Round],
    servers: Sequence[MeasuredServer],
    limits: ReplicaLimits,
    count_tokens: CountTokens,
) -> list[Pair]:
    """Simulate all runs; return the figures of both, as at the median capacity."""
    pairs = []
    for level in levels:
        capacities = [one.capacity_per_s[level.kind] for one in rounds]
        usual_per_s = statistics.median(capacities)
        real, simulated = [], []
        for capacity, one, server in zip(capacities, rounds, servers, strict=True):
            run, pace = one.runs[level.name], capacity / usual_per_s
            real.append(_at_pace(figures_of(run.record), pace))
            simulated.append(_at_pace(simulate_run(server, limits, run, count_tokens), pace))
        pairs += [
            Pair(
                level=level.name,
                figure=figure,
                real=tuple(one[figure] for one in real),
                simulated=tuple(one[figure] for one in simulated),
            )
            for figure in FIGURES
        ]
    return pairs


def _at_pace(figures: dict[str, float], pace: float) -> dict[str, float]:
    """Return what figures would be on a machine that is slower by so much; rates and times."""
    return {
        name: value / pace if name == "requests_per_s" else value * pace
        for name, value in figures.items()
    }


if __name__ == "__main__":
    sys.exit(main())
