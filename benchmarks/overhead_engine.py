"""What the whole path costs over vLLM's own OpenAI server, with the same vLLM behind both."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.contenders import ROOT, counter_of, find_model, our_server, run_all
from benchmarks.peer_contenders import (
    VLLM_CACHE_GIB,
    VLLM_CONTEXT_TOKENS,
    peers_directory,
    vllm_server,
)
from benchmarks.rounds import compare, short_chats, wait_until_idle, warm_up
from benchmarks.statistics import Verdict, judge_at_most, paired_ratio, show_ratio
from mm_orch.benchmarking.workloads import WorkloadKind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.contenders import Contender, Running
    from benchmarks.rounds import Comparison
    from benchmarks.statistics import Ratio
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.models.stored import StoredModel

OURS, THEIRS = "ours_on_vllm", "vllm_server"
BAR = 1.05
HEAD = ("figure", "streams", "ours", "vLLM's server", "ratio", f"at most {BAR:g}")
_MAX_SEQUENCES = 32
_IDLE_S = 5.0
_NUM_DIGITS = 5
_FIGURES: dict[str, Callable[[RunSummary], float]] = {
    "ttft_p50_s": lambda s: s.ttft.p50_s,
    "inter_token_p50_s": lambda s: s.gap.p50_s,
    "time_per_token_p50_s": lambda s: s.time_per_token.p50_s,
}
# Equal to the gap between pieces, unless a server puts several tokens in a piece.
_NOT_JUDGED = {"time_per_token_p50_s"}


def find_vllm(given: Path | None) -> Path | None:
    """Return an interpreter that has vLLM: the given one, ours, the peers'; None for none."""
    places = [ROOT / ".venv-vllm/bin/python", peers_directory() / "vllm/bin/python"]
    return next((path for path in ([given] if given else places) if path.exists()), None)


@dataclass(frozen=True, slots=True)
class EngineOverhead:
    """What was measured.

    Attributes:
        idle_cpu_s: processor time of each server in a second in which nobody asks.
        notes: how each was set up.
        by_streams: all rounds, by number of streams.
    """

    idle_cpu_s: dict[str, float]
    notes: dict[str, str]
    by_streams: dict[int, Comparison]


def measure_engine(python: Path, options: argparse.Namespace) -> EngineOverhead:
    """Start both servers and let them take turns."""
    model = find_model()
    count = counter_of(model)
    with run_all([_ours(model, python), _vllm_server(model, python)]) as running:
        warm_up(running, WorkloadKind.SHORT_CHAT, count, levels=options.streams)
        return EngineOverhead(
            idle_cpu_s=_idle_cpu_s(running),
            notes={one.contender.name: one.contender.note for one in running},
            by_streams={
                num_streams: compare(
                    running,
                    short_chats(num_streams, max(4, 2 * num_streams), count),
                    num_rounds=options.pairs,
                    num_clients=num_streams,
                )
                for num_streams in options.streams
            },
        )


def note_engine(figures: dict[str, object], measured: EngineOverhead) -> dict[str, Verdict]:
    """Put what was measured into the results; return the verdicts on the bars."""
    for name, idle_s in measured.idle_cpu_s.items():
        figures[f"{name}_idle_cores"] = round(idle_s, 4)
    verdicts: dict[str, Verdict] = {}
    for num_streams, comparison in measured.by_streams.items():
        figures[f"{num_streams}_idle_cpu_share"] = round(comparison.idle_cpu_share, 4)
        for label, pair in _pairs(comparison).items():
            for name, median in zip((OURS, THEIRS), pair[:2], strict=True):
                figures[f"{name}_{num_streams}_{label}"] = round(median, _NUM_DIGITS)
            ratio = pair[2]
            figures[f"ratio_{num_streams}_{label}"] = ratio.rounded
            if label not in _NOT_JUDGED:
                verdicts[f"ratio_{num_streams}_{label}"] = judge_at_most(ratio, BAR)
    return verdicts


def rows_of(measured: EngineOverhead) -> list[Sequence[object]]:
    """Return a row for each figure and number of streams, as HEAD names them."""
    rows: list[Sequence[object]] = []
    for num_streams, comparison in measured.by_streams.items():
        for label, (ours, theirs, ratio) in _pairs(comparison).items():
            verdict = "" if label in _NOT_JUDGED else judge_at_most(ratio, BAR).value
            medians = [f"{round(median, _NUM_DIGITS):g}" for median in (ours, theirs)]
            rows.append((label, num_streams, *medians, show_ratio(ratio.rounded), verdict))
    return rows


def _pairs(comparison: Comparison) -> dict[str, tuple[float, float, Ratio]]:
    """Return both medians and the ratio of each figure."""
    cpu = [comparison.cpu_s_per_request(name) for name in (OURS, THEIRS)]
    found = {
        "cpu_s_per_request": (
            statistics.median(cpu[0]),
            statistics.median(cpu[1]),
            paired_ratio(*cpu),
        )
    }
    for label, figure in _FIGURES.items():
        found[label] = (
            comparison.median(OURS, figure),
            comparison.median(THEIRS, figure),
            comparison.ratio(OURS, THEIRS, figure),
        )
    return found


def _idle_cpu_s(running: Sequence[Running]) -> dict[str, float]:
    wait_until_idle(running)
    before = {one.contender.name: one.process.cpu_s for one in running}
    time.sleep(_IDLE_S)
    return {
        one.contender.name: (one.process.cpu_s - before[one.contender.name]) / _IDLE_S
        for one in running
    }


def _ours(model: StoredModel, python: Path) -> Contender:
    return our_server(
        OURS,
        model=model.name,
        model_settings={"source": model.source, "dtype": "bf16"},
        optimization={
            "engine_preference": ["vllm"],
            "batcher": {"max_batch_size": _MAX_SEQUENCES},
            "cache": {"max_memory_mb": VLLM_CACHE_GIB * 1024},
            "vllm": {"python": str(python), "max_model_len": VLLM_CONTEXT_TOKENS},
        },
        precision="bf16",
        note="vLLM as the engine, metrics off",
    )


def _vllm_server(model: StoredModel, python: Path) -> Contender:
    """Return vLLM's server with what engines/vllm/arguments.py and environment.py set."""
    options = [
        *("--max-num-seqs", str(_MAX_SEQUENCES)),
        *("--max-num-batched-tokens", str(VLLM_CONTEXT_TOKENS)),
        *("--block-size", "32", "--enable-prefix-caching", "--no-enable-chunked-prefill"),
        *("--enforce-eager", "--max-logprobs", "-1", "--disable-log-stats"),
        *("--structured-outputs-config", json.dumps({"backend": "guidance"})),
    ]
    note = "the same settings on its command line, metrics off"
    return vllm_server(python, model, name=THEIRS, options=options, note=note)
