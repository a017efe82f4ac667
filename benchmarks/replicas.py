"""What is gained by choosing replicas by what they hold: two of the built-in model, by policy.

usage: python -m benchmarks.replicas [--parts conversations skew] [--pairs N] [--against random ...]

conversations  users who read before they ask again, so that the turns of all come in turns; KV
               memory is set so that both replicas together hold every conversation once, and each
               replica one more than its half. Prefix affinity against random and round robin:
               share of prompt tokens that needed no computing, requests a second
skew           nine of ten conversations begin alike, and more are open than run at once: how far
               the queues of the replicas, in tokens, are from their mean, over the time in which
               conversations began; between two choices queues drift apart by themselves, so the
               bar is on the means over time, and how often they are farther apart is told

All servers are up at once and take turns; no prompt is asked twice.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.contenders import counter_of, find_model, our_server, run_all
from benchmarks.replica_loads import (
    QueueWatch,
    count_blocks,
    imbalance_of,
    make_conversations,
    make_skewed,
    replicas_of,
)
from benchmarks.results_file import report, write_table
from benchmarks.rounds import wait_until_idle
from benchmarks.server_calls import change_options, models_of
from benchmarks.statistics import judge_at_least, judge_value, paired_ratio
from mm_orch.benchmarking.load import run_closed, run_interleaved
from mm_orch.benchmarking.summary import find_unequal_work, summarise
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS
from mm_orch.optimization.replicas.offers import LIGHT_QUEUE_TOKENS, MAX_IMBALANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders import Contender, Running
    from benchmarks.statistics import Verdict
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.models.stored import StoredModel

_OURS = "prefix"
_OTHERS = ("random", "round_robin")
_NUM_REPLICAS = 2
_CONTEXT_TOKENS = 1024
_AMPLE_MB = 1024
_NUM_CLIENTS = 4
_NUM_SKEW_CLIENTS = 80
_SAMPLE_EVERY_S = 0.25
_READY_TIMEOUT_S = 900.0
_BAR_HIT_RATE = 1.5
_BAR_THROUGHPUT = 1.0
_MIB = 1 << 20
_PARTS = ("conversations", "skew")


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--skewed", type=int, default=120, help="conversations of the skewed load")
    parser.add_argument("--against", nargs="*", choices=_OTHERS, default=list(_OTHERS))
    options = parser.parse_args()
    model = find_model()
    count_tokens = counter_of(model)
    result = 0
    with run_all([_serve(model, policy) for policy in (_OURS, *options.against)]) as running:
        for one in running:
            _wait_for_replicas(one)
        if "skew" in options.parts:
            result |= _measure_skew(running, count_tokens, options.skewed)
        if "conversations" in options.parts:
            bench = _Conversations(running, count_tokens, options.conversations, options.turns)
            result |= bench.compare(options.pairs)
    return result


def _serve(model: StoredModel, policy: str) -> Contender:
    return our_server(
        policy,
        model=model.name,
        model_settings={
            "source": f"path:{model.directory}",
            "replicas": _NUM_REPLICAS,
            "context_length": _CONTEXT_TOKENS,
        },
        optimization={
            "engine_preference": ["pytorch"],
            "balancing": policy,
            "cache": {"max_memory_mb": _AMPLE_MB},
        },
        precision="auto",
        note=f"pytorch, {_NUM_REPLICAS} replicas",
    )


def _wait_for_replicas(one: Running) -> None:
    until_s = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < until_s:
        phases = [replica["phase"] for replica in replicas_of(one.process.port)]
        if phases == ["ready"] * _NUM_REPLICAS:
            return
        time.sleep(_SAMPLE_EVERY_S)
    message = f"{one.contender.name}: its replicas are {phases} after {_READY_TIMEOUT_S:g} s"
    raise RuntimeError(message)


# -- conversations ------------------------------------------------------------------------------


class _Conversations:
    """The servers, with as much KV memory as the conversations ask for."""

    def __init__(
        self,
        running: Sequence[Running],
        count_tokens: CountTokens,
        num_conversations: int,
        num_turns: int,
    ) -> None:
        self._running = running
        self._count_tokens = count_tokens
        self._num_conversations = num_conversations
        self._num_turns = num_turns
        trials = [self._run(one, -1) for one in running]
        self._num_blocks = count_blocks(trials[0])
        self._kv_mb = [self._bound_memory(one) for one in running]

    def _bound_memory(self, one: Running) -> int:
        """Give each replica its half of the working set and one conversation more."""
        [model] = models_of(one.process.port)
        block_bytes = model["kv_target_bytes"] // model["cache"]["num_target_blocks"]
        share = 1 / _NUM_REPLICAS + 1 / self._num_conversations
        memory_mb: int = round(self._num_blocks * share * block_bytes / _MIB)
        change_options(one.process.port, {"optimization.cache.max_memory_mb": memory_mb})
        return memory_mb

    def compare(self, num_pairs: int) -> int:
        """Run all in turn, print, write; return 0 when the bars are met."""
        summaries: dict[str, list[RunSummary]] = {}
        faults: list[str] = []
        for number in range(num_pairs):
            order = self._running if number % 2 == 0 else list(reversed(self._running))
            runs = {one.contender.name: self._run(one, number) for one in order}
            faults += [f"round {number + 1}: {one}" for one in find_unequal_work(runs)]
            for name, run in runs.items():
                summaries.setdefault(name, []).append(summary := summarise(run))
                _tell(f"round {number + 1}, {name}", summary)
        figures: dict[str, object] = {
            "num_pairs": num_pairs,
            "num_conversations": self._num_conversations,
            "num_turns": self._num_turns,
            "num_clients": _NUM_CLIENTS,
            "working_set_tokens": self._num_blocks * BLOCK_TOKENS,
            "kv_memory_mb_each": self._kv_mb[0],
            "bar_hit_rate": _BAR_HIT_RATE,
            "bar_throughput": _BAR_THROUGHPUT,
        }
        return self._report(summaries, figures, faults)

    def _run(self, one: Running, number: int) -> RunRecord:
        workload = make_conversations(
            self._num_conversations,
            self._num_turns,
            seed=number,
            count_tokens=self._count_tokens,
        )
        wait_until_idle(self._running)
        return asyncio.run(run_interleaved(one.target, workload, _NUM_CLIENTS, seed=number))

    def _report(
        self,
        summaries: dict[str, list[RunSummary]],
        figures: dict[str, object],
        faults: list[str],
    ) -> int:
        verdicts: dict[str, Verdict] = {}
        rows = []
        for name, ones in summaries.items():
            hits, rates = _shares(ones), [one.requests_per_s for one in ones]
            medians = {
                "hit_rate": round(statistics.median(hits), 4),
                "requests_per_s": round(statistics.median(rates), 3),
                "ttft_p50_s": round(statistics.median(one.ttft.p50_s for one in ones), 3),
                "p95_s": round(statistics.median(one.total.p95_s for one in ones), 3),
            }
            figures[name] = {
                **medians,
                "hit_rates": [round(value, 4) for value in hits],
                "rates_per_s": [round(value, 3) for value in rates],
            }
            rows.append([name, *medians.values()])
        ours = summaries[_OURS]
        others = {name: ones for name, ones in summaries.items() if name != _OURS}
        for name, theirs in others.items():
            hit_rate = paired_ratio(_shares(ours), _shares(theirs))
            throughput = paired_ratio(
                [one.requests_per_s for one in ours], [one.requests_per_s for one in theirs]
            )
            figures[f"hit_rate_over_{name}"] = hit_rate.rounded
            figures[f"throughput_over_{name}"] = throughput.rounded
            verdicts[f"throughput over {name}"] = judge_at_least(throughput, _BAR_THROUGHPUT)
            print(f"over {name}: hit rate {hit_rate}, requests/s {throughput}")
            if name == "random":
                verdicts["hit rate over random"] = judge_at_least(hit_rate, _BAR_HIT_RATE)
        head = ("policy", "hit rate", "requests/s", "TTFT p50 (s)", "p95 (s)")
        print(write_table("replicas", head, rows))
        return report("replicas", figures, faults, verdicts)


def _shares(summaries: Sequence[RunSummary]) -> list[float]:
    return [one.cached_share for one in summaries]


def _tell(words: str, summary: RunSummary) -> None:
    print(
        f"{words}: {summary.requests_per_s:.3f} requests/s, cached {summary.cached_share:.1%},"
        f" TTFT {summary.ttft.p50_s:.2f} s, failed {summary.num_failed}",
        file=sys.stderr,
        flush=True,
    )


# -- skew ---------------------------------------------------------------------------------------


def _measure_skew(running: Sequence[Running], count_tokens: CountTokens, num_sessions: int) -> int:
    """Load each server with conversations that begin alike; return 0 when the bar is met."""
    workload = make_skewed(num_sessions, seed=1, count_tokens=count_tokens)
    figures: dict[str, object] = {
        "num_conversations": num_sessions,
        "num_clients": _NUM_SKEW_CLIENTS,
        "light_queue_tokens": LIGHT_QUEUE_TOKENS,
        "bar_imbalance": MAX_IMBALANCE,
    }
    verdicts: dict[str, Verdict] = {}
    faults: list[str] = []
    for one in running:
        name, watch = one.contender.name, QueueWatch()
        wait_until_idle(running)
        run = asyncio.run(watch.during(run_closed(one.target, workload, _NUM_SKEW_CLIENTS), one))
        summary = summarise(run)
        faults += find_unequal_work({name: run})
        _tell(f"skew, {name}", summary)
        loaded = watch.loaded(LIGHT_QUEUE_TOKENS)
        worst = max(map(imbalance_of, loaded), default=0.0)
        over_time = imbalance_of(watch.means)
        figures[name] = {
            "mean_queues": [round(value) for value in watch.means],
            "imbalance_of_means": round(over_time, 3),
            "num_samples": len(watch.samples),
            "num_loaded_samples": len(loaded),
            "worst_imbalance": round(worst, 3),
            "share_over_bar": round(
                sum(imbalance_of(one) > MAX_IMBALANCE for one in loaded) / max(1, len(loaded)), 3
            ),
            "requests_per_s": round(summary.requests_per_s, 3),
            "hit_rate": round(summary.cached_share, 4),
        }
        if name == _OURS:
            if not loaded:
                faults.append("no queue was longer than a light one")
            verdicts["queues"] = judge_value(over_time, MAX_IMBALANCE)
    return report("replicas_skew", figures, faults, verdicts)


if __name__ == "__main__":
    sys.exit(main())
