"""The headline, row by row: plain transformers against this server without and with its parts.

usage: python -m benchmarks.headline [--rounds N] [--requests N] [--conversations N]
           [--serial-requests N] [--serial-conversations N] [--continuous-conversations N]
           [--arrivals N] [--tokens N] [--only NAME ...]

Closed loop of 32 clients on short chats and on ten-turn conversations, then Poisson arrivals at
0.7 of what plain transformers was measured to sustain. A server that takes one request after
another is given the first sessions only (--serial-...): how many wait does not change its rate.
Transformers' continuous batching takes eleven minutes for all conversations, so it is given eight
of them by default, all at once; each row tells how many requests it is of.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benchmarks.contenders import (
    counter_of,
    find_model,
    naive,
    ours,
    run_all,
    transformers_continuous,
)
from benchmarks.results_file import write_plot, write_results, write_table
from benchmarks.rounds import compare, warm_up
from mm_orch.benchmarking.charts import Chart, Series
from mm_orch.benchmarking.workloads import (
    DEFAULT_OUTPUT_TOKENS,
    Workload,
    WorkloadKind,
    make_workload,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders import Running
    from benchmarks.rounds import Comparison
    from mm_orch.benchmarking.vocabulary import CountTokens

NAIVE, CONTINUOUS = "naive", "transformers_continuous"
ONE_BY_ONE, BATCHED, CACHED = "ours_one_by_one", "ours_batched", "ours_batched_cached"
_SERIAL = {NAIVE, ONE_BY_ONE}
_OPEN_LOOP = {NAIVE, BATCHED, CACHED}
_NUM_CLIENTS = 32
_OPEN_LOAD = 0.7
# No prompt of the closed loop comes again.
_ARRIVALS_SEED = 10_000
_BAR_BATCHED = 12.0
_BAR_CACHED = 15.0
_BAR_P95_DROP = 0.38


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    options = _parse()
    model = find_model()
    count = counter_of(model)
    contenders = [
        naive(model),
        transformers_continuous(model),
        ours(model, ONE_BY_ONE, is_batched=False, is_cached=False),
        ours(model, BATCHED, is_batched=True, is_cached=False),
        ours(model, CACHED),
    ]
    chosen = [one for one in contenders if one.name in options.only]
    with run_all(chosen) as running:
        warm_up(running, _SHORT, count)
        short = _compare_closed(running, _SHORT, options, count)
        conversations = _compare_closed(running, _LONG, options, count)
        rate = short.median(NAIVE, lambda summary: summary.requests_per_s) * _OPEN_LOAD
        arrivals = compare(
            [one for one in running if one.contender.name in _OPEN_LOOP],
            lambda _, number: make_workload(
                _SHORT,
                options.arrivals,
                seed=_ARRIVALS_SEED + number,
                count_tokens=count,
                num_output_tokens=options.tokens,
            ),
            num_rounds=1,
            rate_per_s=rate,
        )
        precisions = {one.contender.name: one.contender.precision for one in running}
    return _report(short, conversations, arrivals, rate=rate, precisions=precisions)


_SHORT, _LONG = WorkloadKind.SHORT_CHAT, WorkloadKind.CONVERSATIONS


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--serial-requests", type=int, default=32)
    parser.add_argument("--serial-conversations", type=int, default=3)
    parser.add_argument("--continuous-conversations", type=int, default=8)
    parser.add_argument("--arrivals", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=DEFAULT_OUTPUT_TOKENS)
    names = [NAIVE, CONTINUOUS, ONE_BY_ONE, BATCHED, CACHED]
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    options = parser.parse_args()
    if NAIVE not in options.only:
        parser.error(f"--only must hold {NAIVE}: everything is compared with it")
    return options


def _compare_closed(
    running: list[Running], kind: WorkloadKind, options: argparse.Namespace, count: CountTokens
) -> Comparison:
    is_short = kind is _SHORT
    num_all = options.requests if is_short else options.conversations
    num_serial = options.serial_requests if is_short else options.serial_conversations

    def workload(one: Running, number: int) -> Workload:
        whole = make_workload(
            kind, num_all, seed=number, count_tokens=count, num_output_tokens=options.tokens
        )
        if one.contender.name in _SERIAL:
            return whole.first(num_serial)
        if one.contender.name == CONTINUOUS and not is_short:
            return whole.first(options.continuous_conversations)
        return whole

    return compare(running, workload, num_rounds=options.rounds, num_clients=_NUM_CLIENTS)


def _report(
    short: Comparison,
    conversations: Comparison,
    arrivals: Comparison,
    *,
    rate: float,
    precisions: dict[str, str],
) -> int:
    figures: dict[str, object] = {
        "bar_ratio_batched": _BAR_BATCHED,
        "bar_ratio_cached": _BAR_CACHED,
        "bar_p95_drop": _BAR_P95_DROP,
        "precision": precisions,
        "arrival_rate_per_s": round(rate, 4),
        "faults": short.faults + conversations.faults + arrivals.faults,
        "idle_cpu_share": round(max(c.idle_cpu_share for c in (short, conversations, arrivals)), 4),
    }
    for label, comparison in (("short", short), ("conversations", conversations)):
        for name in comparison.summaries:
            figures[f"{label}_{name}"] = _row(comparison, name)
    for name in arrivals.summaries:
        figures[f"arrivals_{name}_p95_s"] = round(arrivals.summaries[name][0].total.p95_s, 3)
        figures[f"arrivals_{name}_p50_s"] = round(arrivals.summaries[name][0].total.p50_s, 3)
    met = not figures["faults"]
    if BATCHED in short.summaries:
        ratio = _over_naive(short, BATCHED)
        drop = 1 - arrivals.summaries[BATCHED][0].total.p95_s / (
            arrivals.summaries[NAIVE][0].total.p95_s
        )
        figures["ratio_batched"], figures["p95_drop"] = round(ratio, 2), round(drop, 3)
        met = met and ratio >= _BAR_BATCHED and drop >= _BAR_P95_DROP
    if CACHED in conversations.summaries:
        ratio = _over_naive(conversations, CACHED)
        figures["ratio_cached"] = round(ratio, 2)
        met = met and ratio >= _BAR_CACHED
    for key, value in figures.items():
        print(f"{key}: {value}")
    print(f"written: {write_results('headline', figures).name}")
    _publish({"short chats": short, "ten-turn conversations": conversations}, precisions)
    return 0 if met else 1


def _publish(comparisons: dict[str, Comparison], precisions: dict[str, str]) -> None:
    head = ("set", "server", "precision", *next(iter(_rows(comparisons)))[1])
    rows = [
        (label, name, precisions[name], *row.values()) for (label, name), row in _rows(comparisons)
    ]
    print(write_table("headline", head, rows))
    names = list(precisions)
    bars = [
        Series(
            name, tuple(c.median(name, lambda s: s.requests_per_s) for c in comparisons.values())
        )
        for name in names
    ]
    chart = Chart(
        title="32 clients, 64 tokens each",
        places=tuple(comparisons),
        x_label="what is asked",
        y_label="requests per second",
        series=tuple(bars),
    )
    write_plot("headline", chart)


def _rows(
    comparisons: dict[str, Comparison],
) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    for label, comparison in comparisons.items():
        for name in comparison.summaries:
            yield (label, name), _row(comparison, name)


def _row(comparison: Comparison, name: str) -> dict[str, float]:
    return {
        "num_requests": len(comparison.runs[name][0].requests),
        "requests_per_s": round(comparison.median(name, lambda s: s.requests_per_s), 4),
        "output_tokens_per_s": round(comparison.median(name, lambda s: s.output_tokens_per_s), 1),
        "ttft_p50_s": round(comparison.median(name, lambda s: s.ttft.p50_s), 3),
        "total_p95_s": round(comparison.median(name, lambda s: s.total.p95_s), 2),
        "cached_share": round(comparison.median(name, lambda s: s.cached_share), 3),
        "over_naive": round(_over_naive(comparison, name), 2),
    }


def _over_naive(comparison: Comparison, name: str) -> float:
    return comparison.ratio(name, NAIVE, lambda summary: summary.requests_per_s).median


if __name__ == "__main__":
    sys.exit(main())
