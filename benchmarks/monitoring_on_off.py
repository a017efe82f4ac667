"""What monitoring costs: the same server with all of it on and all of it off, in turn."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contenders import run_all
from benchmarks.monitored_servers import (
    ECHO,
    count_spans,
    engine_of,
    everything_on,
    live_collector,
    monitored,
    scraping,
)
from benchmarks.rounds import compare, short_chats, size_run, warm_up
from benchmarks.statistics import Verdict, judge_at_most, judge_same, paired_ratio, show_ratio
from mm_orch.benchmarking.server_process import free_port
from mm_orch.benchmarking.workloads import DEFAULT_OUTPUT_TOKENS, WorkloadKind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from benchmarks.contenders import Running
    from benchmarks.rounds import Comparison
    from benchmarks.statistics import Ratio
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.models.stored import StoredModel

OFF, ON = "off", "on"
MODEL = "model"
CPU_BAR = 1.02
HEAD = (
    *("engine", "streams", "cpu ms/request off", "on", "ratio", f"at most {CPU_BAR:g}"),
    *("requests/s off", "on", "ratio", "not shown to differ"),
)
# Spans that are left when a run has ended leave within a second.
_SETTLE_S = 1.2
# A core's: the waiting server computes nothing, though its timers go on.
_MAX_IDLE_SHARE = 0.05
_NUM_DIGITS = 4
_MS, _US = 1e3, 1e6


@dataclass(slots=True, kw_only=True)
class OnOff:
    """What was measured with one engine.

    Attributes:
        engine: its name, as the server tells.
        notes: what was asked and read besides, by key of the results.
        by_streams: all pairs, by number of streams.
        faults: why they must not be compared.
    """

    engine: str
    notes: dict[str, object] = field(default_factory=dict)
    by_streams: dict[int, Comparison] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note_faults(self) -> None:
        """Add the faults of the runs."""
        for num_streams, comparison in self.by_streams.items():
            self.faults += comparison.faults
            if comparison.idle_cpu_share > _MAX_IDLE_SHARE:
                self.faults.append(
                    f"{self.engine}, {num_streams} streams: who waited took"
                    f" {comparison.idle_cpu_share:.0%} of a core"
                )


def measure_on_off(
    model: StoredModel, count: CountTokens, options: argparse.Namespace
) -> dict[str, OnOff]:
    """Let both servers take turns, with the engine that they prefer and then with echo.

    Returns:
        The pairs by MODEL and ECHO.
    """
    load_by_label = {
        MODEL: (None, options.pairs, options.seconds),
        ECHO: (ECHO, options.echo_pairs, options.echo_seconds),
    }
    with run_all([live_collector()]) as (collector,):
        return {
            label: _measure(model, engine, count, collector, options.streams, num_pairs, run_s)
            for label, (engine, num_pairs, run_s) in load_by_label.items()
            if label in options.engines
        }


def note_on_off(figures: dict[str, object], measured: Mapping[str, OnOff]) -> dict[str, Verdict]:
    """Put what was measured into the results; return the verdicts on the bars."""
    verdicts: dict[str, Verdict] = {}
    for label, one in measured.items():
        figures[f"{label}_engine"] = one.engine
        figures |= {f"{label}_{key}": value for key, value in one.notes.items()}
        for num_streams, comparison in one.by_streams.items():
            head = f"{label}_{num_streams}"
            cpu, throughput = cpu_ratio(comparison), comparison.ratio(ON, OFF, _throughput)
            for name in (OFF, ON):
                cpu_s = statistics.median(comparison.cpu_s_per_request(name))
                figures[f"{head}_{name}_cpu_us_per_request"] = round(cpu_s * _US, 1)
                rate = comparison.median(name, _throughput)
                figures[f"{head}_{name}_requests_per_s"] = round(rate, _NUM_DIGITS)
            figures[f"{head}_cpu_ratio"] = cpu.rounded
            figures[f"{head}_throughput_ratio"] = throughput.rounded
            figures[f"{head}_idle_cpu_share"] = round(comparison.idle_cpu_share, _NUM_DIGITS)
            if label == MODEL:
                verdicts[f"{head}_cpu"] = judge_at_most(cpu, CPU_BAR)
                verdicts[f"{head}_throughput"] = judge_same(throughput)
            else:
                added_us = added_cpu_s(comparison) * _US
                figures[f"{head}_added_cpu_us_per_request"] = round(added_us, 1)
                per_token_us = added_us / DEFAULT_OUTPUT_TOKENS
                figures[f"{head}_added_cpu_us_per_token"] = round(per_token_us, 2)
    return verdicts


def rows_of(measured: Mapping[str, OnOff]) -> list[Sequence[object]]:
    """Return a row for each engine and number of streams, as HEAD names them."""
    rows: list[Sequence[object]] = []
    for label, one in measured.items():
        for num_streams, comparison in one.by_streams.items():
            cpu, throughput = cpu_ratio(comparison), comparison.ratio(ON, OFF, _throughput)
            is_judged = label == MODEL
            cpu_ms = [
                f"{statistics.median(comparison.cpu_s_per_request(name)) * _MS:.2f}"
                for name in (OFF, ON)
            ]
            rates = [f"{comparison.median(name, _throughput):.3f}" for name in (OFF, ON)]
            rows.append(
                (
                    *(one.engine, num_streams, *cpu_ms, show_ratio(cpu.rounded)),
                    judge_at_most(cpu, CPU_BAR).value if is_judged else "",
                    *(*rates, show_ratio(throughput.rounded)),
                    judge_same(throughput).value if is_judged else "",
                )
            )
    return rows


def cpu_ratio(comparison: Comparison) -> Ratio:
    """Return the processor time of a request with all on over that with all off."""
    return paired_ratio(comparison.cpu_s_per_request(ON), comparison.cpu_s_per_request(OFF))


def added_cpu_s(comparison: Comparison) -> float:
    """Return how much more processor time a request takes with all on, in the median pair."""
    pairs = zip(comparison.cpu_s_per_request(ON), comparison.cpu_s_per_request(OFF), strict=True)
    return statistics.median(on_s - off_s for on_s, off_s in pairs)


def _throughput(summary: RunSummary) -> float:
    return summary.requests_per_s


def _measure(
    model: StoredModel,
    engine: str | None,
    count: CountTokens,
    collector: Running,
    streams: Sequence[int],
    num_pairs: int,
    run_s: float,
) -> OnOff:
    port = free_port()
    off = monitored(OFF, model, engine, {"enabled": False})
    on = monitored(ON, model, engine, everything_on(port))
    num_before, cpu_before_s = count_spans(collector), collector.process.cpu_s
    with run_all([off, on]) as running, scraping(port) as scrapes:
        measured = OnOff(engine=engine_of(running[0]))
        if engine_of(running[1]) != measured.engine:
            measured.faults.append("the two servers chose different engines")
        warm_up(running, WorkloadKind.SHORT_CHAT, count, levels=streams)
        for num_streams in streams:
            num_requests = size_run(running[0], num_streams, count, run_s)
            measured.notes[f"{num_streams}_requests_per_run"] = num_requests
            measured.by_streams[num_streams] = compare(
                running,
                short_chats(num_streams, num_requests, count),
                num_rounds=num_pairs,
                num_clients=num_streams,
                settle_s=_SETTLE_S,
            )
    measured.faults += scrapes.faults[:1]
    measured.note_faults()
    measured.notes |= {
        "num_pairs": num_pairs,
        "num_scrapes": scrapes.num_scrapes,
        "metrics_page_bytes": scrapes.num_bytes,
        "num_spans": count_spans(collector) - num_before,
        "collector_cpu_s": round(collector.process.cpu_s - cpu_before_s, 2),
    }
    if not measured.notes["num_spans"]:
        measured.faults.append(f"{measured.engine}: the collector got no spans")
    return measured
