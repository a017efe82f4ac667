"""Ten times overload: what becomes of those who are let in, of those who are not, and of memory.

usage: python -m benchmarks.overload [--seconds N]

unloaded    requests of high priority, one after another, with nothing else: their first token
saturated   a closed loop with as many clients as the batch and the queue have places: its p95, and
            how many requests a second the server answers
flood       an open loop (Poisson) at ten times that rate, for so many seconds; beside it requests
            of high priority, a tenth of what the server answers, and clients that are refused, wait
            for what Retry-After says, and ask again until they are in

In the closed loop the queue is one batch longer, so that nobody is refused in the moment between an
answer and the next request; as many are in the server as in the flood. High priority requests that
are refused have no first token: they count as slower than any bar.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from benchmarks.contenders import counter_of, find_model, our_server, run_all
from benchmarks.overload_summary import (
    Overload,
    answered,
    capacity_of,
    faults_of,
    note_overload,
)
from benchmarks.patient import ask_patiently
from benchmarks.processes import OTHER, ProcessWatch
from benchmarks.results_file import report
from benchmarks.rounds import size_run, wait_until_idle, warm_up
from benchmarks.server_calls import change_options, workers_of
from mm_orch.benchmarking.load import run_closed, run_open
from mm_orch.benchmarking.workloads import Workload, WorkloadKind, make_workload
from mm_orch.core.priority import MAX_PRIORITY

if TYPE_CHECKING:
    from benchmarks.contenders import Contender, Running
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.models.stored import StoredModel

OVERLOAD = 10.0
_CACHE_MB = 64
_CONTEXT_LENGTH = 2048
_SAMPLE_INTERVAL_S = 1.0
_SEED_BY_PHASE = {"unloaded": 1, "saturated": 2, "flood": 3, "urgent": 4, "patient": 5}


def main() -> int:
    """Measure, print, write; return 0 when every bar is met."""
    options = _read_options()
    model = find_model()
    count = counter_of(model)
    figures: dict[str, object] = {
        "seconds": options.seconds,
        "max_batch_size": options.batch,
        "queue_capacity": options.queue,
        "output_tokens": options.tokens,
        "wanted_overload": OVERLOAD,
        "urgent_share": options.urgent_share,
        "num_patient_clients": options.patient,
    }
    with run_all([_server(model, options.batch)]) as (one,):
        measured = _measure(one, count, options)
    verdicts = note_overload(figures, measured)
    return report("overload", figures, faults_of(measured), verdicts)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of the overload")
    parser.add_argument("--saturated-seconds", type=float, default=40.0)
    parser.add_argument("--unloaded", type=int, default=60, help="requests")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24, help="of an answer")
    parser.add_argument(
        "--urgent-share",
        type=float,
        default=0.1,
        help="requests of high priority, of those that the server answers",
    )
    parser.add_argument("--patient", type=int, default=1, help="clients that come back")
    return parser.parse_args()


def _server(model: StoredModel, max_batch_size: int) -> Contender:
    return our_server(
        "ours",
        model=model.name,
        model_settings={
            "source": model.source,
            "dtype": "bf16",
            # No question is longer, and keys and values of one must fit below.
            "context_length": _CONTEXT_LENGTH,
        },
        optimization={
            "engine_preference": ["pytorch"],
            "batcher": {"max_batch_size": max_batch_size},
            # Full before it is measured, so that it does not look like a leak.
            "cache": {"max_memory_mb": _CACHE_MB},
        },
        precision="bf16",
        note="pytorch",
    )


def _measure(one: Running, count: CountTokens, options: argparse.Namespace) -> Overload:
    port, num_clients = one.process.port, options.batch + options.queue
    change_options(port, {"monitoring.server.queue_capacity": num_clients})
    warm_up([one], WorkloadKind.SHORT_CHAT, count, levels=(1, num_clients))
    num_requests = size_run(one, num_clients, count, options.saturated_seconds, options.tokens)
    wait_until_idle([one])
    calm = _chats("unloaded", options.unloaded, count, options.tokens, priority=MAX_PRIORITY)
    unloaded = asyncio.run(run_closed(one.target, calm, 1))
    _tell("unloaded", unloaded)
    chats = _chats("saturated", num_requests, count, options.tokens)
    saturated = asyncio.run(run_closed(one.target, chats, num_clients))
    _tell("saturated", saturated)
    change_options(port, {"monitoring.server.queue_capacity": options.queue})
    measured = asyncio.run(_flood(one, count, options, unloaded, saturated))
    _tell("flood", measured.flood)
    _tell("high priority in it", measured.urgent)
    return measured


async def _flood(
    one: Running,
    count: CountTokens,
    options: argparse.Namespace,
    unloaded: RunRecord,
    saturated: RunRecord,
) -> Overload:
    """Run the flood and what is beside it; return all that was measured."""
    seconds, capacity_per_s = options.seconds, capacity_of(saturated)
    rate, urgent_rate = OVERLOAD * capacity_per_s, options.urgent_share * capacity_per_s
    crowd = _chats("flood", round(rate * seconds), count, options.tokens)
    num_urgent = max(1, round(urgent_rate * seconds))
    few = _chats("urgent", num_urgent, count, options.tokens, priority=MAX_PRIORITY)
    waiting = _chats("patient", round(seconds), count, options.tokens)
    watch = ProcessWatch(one.process.pid, lambda: workers_of(one.process.port))
    seeds = _SEED_BY_PHASE
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch.watch(_SAMPLE_INTERVAL_S))
        flood = tasks.create_task(run_open(one.target, crowd, rate_per_s=rate, seed=seeds["flood"]))
        urgent = tasks.create_task(
            run_open(one.target, few, rate_per_s=urgent_rate, seed=seeds["urgent"])
        )
        patient = [
            tasks.create_task(ask_patiently(one.target, waiting, duration_s=seconds))
            for _ in range(options.patient)
        ]
        await flood
        watching.cancel()
    return Overload(
        unloaded=unloaded,
        saturated=saturated,
        flood=flood.result(),
        urgent=urgent.result(),
        waits=[wait for client in patient for wait in client.result()],
        memory={life.name: life.memory for life in watch.lives if life.name != OTHER},
    )


def _chats(
    phase: str, num_requests: int, count: CountTokens, num_tokens: int, *, priority: int = 0
) -> Workload:
    made = make_workload(
        WorkloadKind.SHORT_CHAT,
        num_requests,
        seed=_SEED_BY_PHASE[phase],
        count_tokens=count,
        num_output_tokens=num_tokens,
    )
    return Workload(name=phase, is_chat=True, sessions=made.sessions, priority=priority)


def _tell(phase: str, run: RunRecord) -> None:
    print(
        f"{phase}: {run.load}, {len(run.requests)} requests, {len(answered(run))} answered in"
        f" {run.wall_s:.1f} s",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
