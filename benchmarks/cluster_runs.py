"""A server with its worker beside it and one with its worker on Ray, in turn, on the same work."""

from __future__ import annotations

import dataclasses
import os
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from benchmarks.contenders import our_server, run_all
from benchmarks.monitored_servers import engine_of
from benchmarks.rounds import compare, short_chats, size_run, warm_up
from benchmarks.statistics import (
    Ratio,
    Verdict,
    bootstrap,
    judge_at_most,
    paired_ratio,
    show_ratio,
)
from mm_orch.benchmarking import process_tree
from mm_orch.benchmarking.workloads import WorkloadKind
from tests.ray_nodes import run_nodes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from benchmarks.contenders import Contender
    from benchmarks.rounds import Comparison
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.models.stored import StoredModel
    from tests.ray_nodes import Nodes

LOCAL, RAY = "local", "ray"
MODEL, ECHO = "model", "echo"
TTFT_BAR_MS = 5.0
CPU_BAR = 1.1
HEAD = (
    *("engine", "streams", "TTFT p50 ms", "on Ray", "added ms", f"at most {TTFT_BAR_MS:g}"),
    *("cpu ms/token", "on Ray", "ratio", f"at most {CPU_BAR:g}"),
    *("with Ray's daemons", "ratio", f"at most {CPU_BAR:g}"),
)
# Meters: an actor with the worker beneath it, and all else of the nodes.
_ACTORS, _DAEMONS = "actors", "daemons"
_NO_BAR = ""
_MS = 1e3


@dataclass(slots=True, kw_only=True)
class Load:
    """All pairs with one engine and one number of streams.

    Attributes:
        label: MODEL or ECHO; bars hold for the model alone.
        engine: its name, as the server tells.
        faults: why they must not be compared.
    """

    label: str
    engine: str
    num_streams: int
    num_requests: int
    comparison: Comparison
    faults: list[str] = field(default_factory=list)

    @property
    def has_ttft_bar(self) -> bool:
        """Whether the bar on the first token is judged: others' work does not wait there."""
        return self.label == MODEL and self.num_streams == 1

    @property
    def added_ttft_ms(self) -> Ratio:
        """How much later the median first token comes on Ray, in the median pair."""
        local, ray = (
            [summary.ttft.p50_s * _MS for summary in self.comparison.summaries[name]]
            for name in (LOCAL, RAY)
        )
        added = [b - a for a, b in zip(local, ray, strict=True)]
        return bootstrap(len(added), lambda rounds: statistics.median(added[one] for one in rounds))

    def cpu_ms_per_token(self, name: str, *, counts_daemons: bool = False) -> list[float]:
        """Return the processor time of each output token, round by round."""
        cpu_s = list(self.comparison.cpu_s[name])
        if name == RAY:
            for meter in (_ACTORS, _DAEMONS) if counts_daemons else (_ACTORS,):
                metered_s = self.comparison.metered_s[RAY][meter]
                cpu_s = [a + b for a, b in zip(cpu_s, metered_s, strict=True)]
        summaries = self.comparison.summaries[name]
        return [
            one_s * _MS / max(1, summary.num_output_tokens)
            for one_s, summary in zip(cpu_s, summaries, strict=True)
        ]

    def cpu_ratio(self, *, counts_daemons: bool) -> Ratio:
        """Return the processor time of a token on Ray over that beside the server."""
        ray = self.cpu_ms_per_token(RAY, counts_daemons=counts_daemons)
        return paired_ratio(ray, self.cpu_ms_per_token(LOCAL))

    @property
    def daemons_share(self) -> float:
        """What Ray's daemons took of a core while nobody asked for anything of Ray's server."""
        metered_s = self.comparison.metered_s[LOCAL][_DAEMONS]
        walls_s = [run.wall_s for run in self.comparison.runs[LOCAL]]
        return sum(metered_s) / sum(walls_s)


def measure(model: StoredModel, count: CountTokens, options: argparse.Namespace) -> list[Load]:
    """Let both servers take turns, with the engine that they prefer and with echo."""
    load_by_label = {MODEL: (None, options.seconds), ECHO: (ECHO, options.echo_seconds)}
    with run_nodes() as nodes:
        nodes.add(_num_cores())
        return [
            load
            for label, (engine, run_s) in load_by_label.items()
            if label in options.engines
            for load in _measure(label, _pair(model, engine, nodes), count, nodes, options, run_s)
        ]


def note(figures: dict[str, object], measured: Sequence[Load]) -> dict[str, Verdict]:
    """Put what was measured into the results; return the verdicts on the bars."""
    verdicts: dict[str, Verdict] = {}
    for one in measured:
        head = f"{one.label}_{one.num_streams}"
        figures[f"{one.label}_engine"] = one.engine
        figures[f"{head}_requests_per_run"] = one.num_requests
        for name in (LOCAL, RAY):
            figures[f"{head}_{name}_ttft_p50_ms"] = round(_ttft_ms(one.comparison, name), 2)
            rate = one.comparison.median(name, _tokens_per_s)
            figures[f"{head}_{name}_tokens_per_s"] = round(rate, 1)
            cpu_ms = statistics.median(one.cpu_ms_per_token(name))
            figures[f"{head}_{name}_cpu_ms_per_token"] = round(cpu_ms, 3)
        cpu_ms = statistics.median(one.cpu_ms_per_token(RAY, counts_daemons=True))
        figures[f"{head}_ray_with_daemons_cpu_ms_per_token"] = round(cpu_ms, 3)
        figures[f"{head}_added_ttft_ms"] = one.added_ttft_ms.rounded
        figures[f"{head}_cpu_ratio"] = one.cpu_ratio(counts_daemons=False).rounded
        figures[f"{head}_cpu_with_daemons_ratio"] = one.cpu_ratio(counts_daemons=True).rounded
        figures[f"{head}_daemons_share_of_a_core"] = round(one.daemons_share, 3)
        verdicts |= _judge(one, head)
    return verdicts


def rows_of(measured: Sequence[Load]) -> list[Sequence[object]]:
    """Return a row for each engine and number of streams, as HEAD names them."""
    rows: list[Sequence[object]] = []
    for one in measured:
        verdicts = _judge(one, "")
        cpu = [
            f"{statistics.median(values):.2f}"
            for values in (
                one.cpu_ms_per_token(LOCAL),
                one.cpu_ms_per_token(RAY),
                one.cpu_ms_per_token(RAY, counts_daemons=True),
            )
        ]
        rows.append(
            (
                *(one.engine, one.num_streams),
                *(f"{_ttft_ms(one.comparison, name):.2f}" for name in (LOCAL, RAY)),
                *(show_ratio(one.added_ttft_ms.rounded), _show(verdicts, "_added_ttft")),
                *(cpu[0], cpu[1], show_ratio(one.cpu_ratio(counts_daemons=False).rounded)),
                _show(verdicts, "_cpu"),
                *(cpu[2], show_ratio(one.cpu_ratio(counts_daemons=True).rounded)),
                _show(verdicts, "_cpu_with_daemons"),
            )
        )
    return rows


def _judge(one: Load, head: str) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    if one.has_ttft_bar:
        verdicts[f"{head}_added_ttft"] = judge_at_most(one.added_ttft_ms, TTFT_BAR_MS)
    if one.label == MODEL:
        for key, counts_daemons in (("cpu", False), ("cpu_with_daemons", True)):
            ratio = one.cpu_ratio(counts_daemons=counts_daemons)
            verdicts[f"{head}_{key}"] = judge_at_most(ratio, CPU_BAR)
    return verdicts


def _show(verdicts: Mapping[str, Verdict], key: str) -> str:
    return verdicts[key].value if key in verdicts else _NO_BAR


def _pair(model: StoredModel, engine: str | None, nodes: Nodes) -> list[Contender]:
    def contender(name: str, note: str, cluster: Mapping[str, object] | None = None) -> Contender:
        return our_server(
            name,
            model=model.name,
            model_settings={"source": model.source},
            optimization={"engine_preference": [engine]} if engine else {},
            precision="auto",
            note=note,
            cluster=cluster,
        )

    on_ray = contender(
        RAY,
        "its worker on another node",
        {"address": nodes.address, "cpus_per_worker": _num_cores()},
    )
    return [
        contender(LOCAL, "its worker beside it"),
        dataclasses.replace(on_ray, environment=nodes.environment),
    ]


def _measure(
    label: str,
    pair: Sequence[Contender],
    count: CountTokens,
    nodes: Nodes,
    options: argparse.Namespace,
    run_s: float,
) -> list[Load]:
    loads: list[Load] = []
    with run_all(pair) as running:
        engines = {engine_of(one) for one in running}
        warm_up(running, WorkloadKind.SHORT_CHAT, count, levels=options.streams)
        for num_streams in options.streams:
            num_requests = size_run(running[0], num_streams, count, run_s, options.tokens)
            comparison = compare(
                running,
                short_chats(num_streams, num_requests, count, options.tokens),
                num_rounds=options.pairs,
                num_clients=num_streams,
                meters={
                    _ACTORS: lambda: _actors_cpu_s(nodes),
                    _DAEMONS: lambda: _nodes_cpu_s(nodes) - _actors_cpu_s(nodes),
                },
            )
            faults = list(comparison.faults)
            if len(engines) > 1:
                faults.append(f"the two servers chose different engines: {sorted(engines)}")
            loads.append(
                Load(
                    label=label,
                    engine=" and ".join(sorted(engines)),
                    num_streams=num_streams,
                    num_requests=num_requests,
                    comparison=comparison,
                    faults=faults,
                )
            )
    return loads


def _actors_cpu_s(nodes: Nodes) -> float:
    parents = [psutil.Process(pid).ppid() for pid in nodes.find_workers()]
    return sum(process_tree.cpu_s(pid) for pid in parents)


def _nodes_cpu_s(nodes: Nodes) -> float:
    return sum(process_tree.cpu_s(node.pid) for node in nodes.all)


def _num_cores() -> int:
    # As many as a worker beside the server may take.
    return len(os.sched_getaffinity(0))


def _ttft_ms(comparison: Comparison, name: str) -> float:
    return comparison.median(name, lambda summary: summary.ttft.p50_s) * _MS


def _tokens_per_s(summary: RunSummary) -> float:
    return summary.output_tokens_per_s
