"""What a collector of traces that is alive, gone or silent does to latency and memory."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from benchmarks.contenders import run_all
from benchmarks.gateway_load import ask_chats
from benchmarks.monitored_servers import (
    CLOSED,
    ECHO,
    HANGING,
    LIVE,
    count_spans,
    dead_collectors,
    live_collector,
    monitored,
    tracing_to,
)
from benchmarks.rounds import compare, short_chats, size_run, warm_up
from benchmarks.statistics import Verdict, judge_not_above, show_ratio
from mm_orch.benchmarking.workloads import WorkloadKind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.contenders import Contender, Running
    from benchmarks.rounds import Comparison
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.models.stored import StoredModel

OFF = "no_tracing"
COLLECTORS = (LIVE, CLOSED, HANGING)
# A full queue is 2048 events, this is 8 KiB for each (7 were seen). Were they kept for ever, 18,000
# requests would leave 36,000.
MAX_QUEUE_MIB = 16.0
# The last spans have 2 s to leave.
MAX_STOP_S = 3.0
HEAD = ("collector", "latency", "without tracing s", "with", "ratio", "not shown above 1")
MEMORY_HEAD = (
    *("collector", "MiB after the first", "MiB at the end", "growth MiB"),
    *(f"at most {MAX_QUEUE_MIB:g} more than without", "stop s", f"at most {MAX_STOP_S:g} more"),
)
_FIGURES: dict[str, Callable[[RunSummary], float]] = {
    "ttft_p50_s": lambda s: s.ttft.p50_s,
    "ttft_p95_s": lambda s: s.ttft.p95_s,
    "total_p50_s": lambda s: s.total.p50_s,
    "total_p95_s": lambda s: s.total.p95_s,
}
_MEMORY_CLIENTS = 32
_MEMORY_TOKENS = 1
_MIB = 1 << 20
_NUM_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """What one server took.

    Attributes:
        first_mib: resident memory of the server, without its worker, after the first requests.
        last_mib: after all.
        stop_s: how long it took to end.
    """

    first_mib: float
    last_mib: float
    stop_s: float

    @property
    def growth_mib(self) -> float:
        """How much came after the first requests."""
        return self.last_mib - self.first_mib


@dataclass(slots=True, kw_only=True)
class Collected:
    """What was measured.

    Attributes:
        latency: all rounds of OFF and COLLECTORS.
        memory: by the same names.
        num_spans: that the live collector took while memory was measured.
        faults: why the figures must not be used.
    """

    latency: Comparison
    memory: dict[str, Memory] = field(default_factory=dict)
    num_spans: int = 0
    faults: list[str] = field(default_factory=list)


def measure_collectors(
    model: StoredModel, count: CountTokens, options: argparse.Namespace
) -> Collected:
    """Measure memory, one server after another, then latency, all taking turns."""
    memory: dict[str, Memory] = {}
    faults: list[str] = []
    with run_all([live_collector()]) as (collector,), dead_collectors():
        for contender in _servers(model, ECHO):
            memory[contender.name] = _measure_memory(contender, options, faults)
        num_spans = count_spans(collector)
        engine = None if options.collector_engine != ECHO else ECHO
        latency = _measure_latency(_servers(model, engine), count, options)
    if not num_spans:
        faults.append("the live collector got no spans")
    return Collected(
        latency=latency, memory=memory, num_spans=num_spans, faults=faults + latency.faults
    )


def note_collectors(figures: dict[str, object], measured: Collected) -> dict[str, Verdict]:
    """Put what was measured into the results; return the verdicts on the bars."""
    verdicts: dict[str, Verdict] = {}
    latency, memory = measured.latency, measured.memory
    figures["collector_idle_cpu_share"] = round(latency.idle_cpu_share, _NUM_DIGITS)
    figures["live_num_spans"] = measured.num_spans
    for name in (OFF, *COLLECTORS):
        for label, figure in _FIGURES.items():
            figures[f"{name}_{label}"] = round(latency.median(name, figure), _NUM_DIGITS)
            if name != OFF:
                ratio = latency.ratio(name, OFF, figure)
                figures[f"{name}_ratio_{label}"] = ratio.rounded
                if name != LIVE:
                    verdicts[f"{name}_{label}"] = judge_not_above(ratio, 1.0)
        figures[f"{name}_first_mib"] = round(memory[name].first_mib, 1)
        figures[f"{name}_growth_mib"] = round(memory[name].growth_mib, 1)
        figures[f"{name}_stop_s"] = round(memory[name].stop_s, 2)
        if name != OFF:
            verdicts[f"{name}_memory"] = judge_growth(memory[name], memory[OFF])
            verdicts[f"{name}_stop"] = judge_stop(memory[name], memory[OFF])
    return verdicts


def rows_of(latency: Comparison) -> list[Sequence[object]]:
    """Return a row for each collector and figure, as HEAD names them."""
    rows: list[Sequence[object]] = []
    for name in COLLECTORS:
        for label, figure in _FIGURES.items():
            ratio = latency.ratio(name, OFF, figure)
            medians = [
                f"{round(latency.median(one, figure), _NUM_DIGITS):g}" for one in (OFF, name)
            ]
            verdict = "" if name == LIVE else judge_not_above(ratio, 1.0).value
            rows.append((name, label, *medians, show_ratio(ratio.rounded), verdict))
    return rows


def memory_rows_of(memory: Mapping[str, Memory]) -> list[Sequence[object]]:
    """Return a row for each server, as MEMORY_HEAD names them."""
    return [
        (
            *(name, f"{one.first_mib:.1f}", f"{one.last_mib:.1f}", f"{one.growth_mib:.1f}"),
            "" if name == OFF else judge_growth(one, memory[OFF]).value,
            f"{one.stop_s:.2f}",
            "" if name == OFF else judge_stop(one, memory[OFF]).value,
        )
        for name, one in memory.items()
    ]


def judge_growth(one: Memory, without: Memory) -> Verdict:
    """Say whether it grew by no more than without tracing and what a full queue holds."""
    is_met = one.growth_mib - without.growth_mib <= MAX_QUEUE_MIB
    return Verdict.MET if is_met else Verdict.MISSED


def judge_stop(one: Memory, without: Memory) -> Verdict:
    """Say whether it ended no later than without tracing and what its last spans may take."""
    return Verdict.MET if one.stop_s - without.stop_s <= MAX_STOP_S else Verdict.MISSED


def _servers(model: StoredModel, engine: str | None) -> list[Contender]:
    sections: dict[str, dict[str, object]] = {OFF: {}}
    sections |= {name: tracing_to(name) for name in COLLECTORS}
    metrics = {"prometheus": {"enabled": True, "port": 0}}
    return [monitored(name, model, engine, metrics | own) for name, own in sections.items()]


def _measure_latency(
    contenders: Sequence[Contender], count: CountTokens, options: argparse.Namespace
) -> Comparison:
    num_streams = options.collector_streams
    with run_all(contenders) as running:
        warm_up(running, WorkloadKind.SHORT_CHAT, count, levels=[num_streams])
        num_requests = size_run(running[0], num_streams, count, options.collector_seconds)
        return compare(
            running,
            short_chats(num_streams, num_requests, count),
            num_rounds=options.rounds,
            num_clients=num_streams,
        )


def _measure_memory(contender: Contender, options: argparse.Namespace, faults: list[str]) -> Memory:
    with run_all([contender]) as (one,):
        first_mib = _mib_after(one, options.first_requests, faults)
        last_mib = _mib_after(one, options.requests - options.first_requests, faults)
        begin_s = time.monotonic()
        one.process.stop()
        return Memory(first_mib, last_mib, time.monotonic() - begin_s)


def _mib_after(one: Running, num_requests: int, faults: list[str]) -> float:
    times = asyncio.run(
        ask_chats(
            one.target,
            num_clients=_MEMORY_CLIENTS,
            num_requests=num_requests,
            num_tokens=_MEMORY_TOKENS,
            is_stream=False,
        )
    )
    faults += [f"{one.contender.name}: {fault}" for fault in times.faults[:1]]
    resident_bytes: int = psutil.Process(one.process.pid).memory_info().rss
    return resident_bytes / _MIB
