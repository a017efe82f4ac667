"""Whether ``muai --benchmark`` measures what an outside tool measures: guidellm, on the same load.

usage: python -m benchmarks.outside_tool PYTHON [--rounds N] [--levels N ...] [--requests N]
       [--engine NAME]

PYTHON is the interpreter of an environment that has guidellm, made with

    python -m venv DIRECTORY && DIRECTORY/bin/pip install guidellm

One server with the built-in model runs all the while, its prefix cache off, so that both may ask
the very same prompts. It computes on half of the cores and the tools run on the other half, or the
more costly of them would be seen in the server's times. In each round both measure the same run:
each has so many clients, which work the same short chats off at the same time as the other's and in
the same batches. (In turns, one after the other, a shared machine changes its pace by more than the
tools could differ.) guidellm begins, ours joins with its first request, and works the chats off in
the opposite order, or each of its requests would wait behind guidellm's. The chats are answered at
different lengths: clients that all wait for the same length begin in step, with one tool more than
with the other, and then wait for the prompts of all. Ours is the load generator and the summary of
the command; guidellm's figures are those of its own report. A figure agrees when the whole interval
of the rounds' ratios, ours over guidellm's, is within its tolerance.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import counter_of, find_model, ours, run_all
from benchmarks.results_file import report, write_table
from benchmarks.rounds import short_chats, wait_until_idle, warm_up
from benchmarks.statistics import judge_within, paired_ratio, show_ratio
from mm_orch.benchmarking.load import failures_of, run_closed
from mm_orch.benchmarking.summary import summarise
from mm_orch.benchmarking.workloads import WorkloadKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.contenders import Contender, Running
    from benchmarks.statistics import Verdict
    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.workloads import Workload

TOLERANCES = {"requests_per_s": 0.05, "ttft_ms": 0.1, "itl_ms": 0.05, "e2e_ms": 0.05}
"""How far apart the two may be. The first text is a short time, which the tools' own work shows
in."""

_MS_PER_S = 1000
_TOOL_TIMEOUT_S = 600.0
# Of one run. Some lose a request at their end; which ones is chance.
_MAX_REPEATS = 5
_POLL_S = 0.02
_GOLDEN_RATIO = 0.618
_PINNED = (
    "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1].split(',')));"
    " os.execv(sys.argv[2], sys.argv[2:])"
)

Figures = dict[str, float]


def main() -> int:
    """Measure, print, write; return 0 when the two agree."""
    options = _options()
    model = find_model()
    rounds: dict[int, list[tuple[Figures, Figures]]] = {level: [] for level in options.levels}
    faults: list[str] = []
    server_cores, tool_cores = split_cores(sorted(os.sched_getaffinity(0)))
    server = pinned(ours(model, "ours", is_cached=False, engine=options.engine), server_cores)
    # Of this process, and so of guidellm, which it starts.
    os.sched_setaffinity(0, tool_cores)
    with tempfile.TemporaryDirectory() as folder, run_all([server]) as running:
        tool = _Guidellm(options.python, running[0], model.directory, Path(folder))
        warm_up(running, WorkloadKind.SHORT_CHAT, counter_of(model), options.levels)
        for number in range(options.rounds):
            for level in options.levels:
                # A single client waits for each answer; more clients answer more in that time.
                # An odd number: of an even one, tools do not agree which is the median.
                num_requests = options.requests * max(1, level // 2) | 1
                make = short_chats(level, num_requests, counter_of(model))
                workload = vary_lengths(make(running[0], number))
                run, theirs = asyncio.run(_measure_both(tool, running, workload, level))
                faults.extend(f"round {number + 1}: {fault}" for fault in failures_of([run]))
                pair = figures_of(summarise(run)), theirs
                rounds[level].append(pair)
                print(f"round {number + 1}, {level} clients: {pair}", file=sys.stderr, flush=True)
    figures: dict[str, object] = {
        "tool": f"guidellm {tool.version}",
        "engine": options.engine,
        "server_cores": len(server_cores),
        "tool_cores": len(tool_cores),
        "num_rounds": options.rounds,
        "num_runs_repeated": tool.num_repeated,
        "tolerances": TOLERANCES,
    }
    verdicts = _compare(rounds, figures)
    return report("outside_tool", figures, faults, verdicts)


def split_cores(cores: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the server's cores and the tools': half each; a single one is both's."""
    half = len(cores) // 2
    return (cores[:half], cores[half:]) if half else (cores, cores)


def pinned(contender: Contender, cores: Sequence[int]) -> Contender:
    """Return the same server, which computes on these cores alone."""

    def command(port: int, folder: Path) -> Sequence[str]:
        start = [sys.executable, "-c", _PINNED, ",".join(map(str, cores))]
        return [*start, *contender.command(port, folder)]

    return replace(contender, command=command)


def vary_lengths(workload: Workload) -> Workload:
    """Return the same chats, answered at a half to one and a half of their lengths."""
    sessions = []
    for number, session in enumerate(workload.sessions):
        # Spread evenly, however many there are.
        factor = 0.5 + (number + 0.5) * _GOLDEN_RATIO % 1
        turns = tuple(
            replace(turn, num_output_tokens=max(1, round(turn.num_output_tokens * factor)))
            for turn in session.turns
        )
        sessions.append(replace(session, turns=turns))
    return replace(workload, sessions=tuple(sessions))


def figures_of(summary: RunSummary) -> Figures:
    """Return our figures of a run: the rate, and medians in milliseconds."""
    return {
        "requests_per_s": summary.requests_per_s,
        "ttft_ms": summary.ttft.p50_s * _MS_PER_S,
        "itl_ms": summary.time_per_token.p50_s * _MS_PER_S,
        "e2e_ms": summary.total.p50_s * _MS_PER_S,
    }


def read_figures(content: Mapping[str, Any], num_requests: int) -> Figures:
    """Return the same figures out of guidellm's report.

    Raises:
        OtherLoadError: not all requests were answered, so it was not the same load.
    """
    [run] = content["benchmarks"]
    metrics = run["metrics"]
    totals = metrics["request_totals"]
    if totals["successful"] != num_requests:
        message = f"guidellm was to have {num_requests} requests answered: {totals}"
        raise OtherLoadError(message)
    return {
        "requests_per_s": metrics["requests_per_second"]["successful"]["mean"],
        "ttft_ms": metrics["time_to_first_token_ms"]["successful"]["median"],
        "itl_ms": metrics["inter_token_latency_ms"]["successful"]["median"],
        "e2e_ms": metrics["request_latency"]["successful"]["median"] * _MS_PER_S,
    }


def data_of(workload: Workload) -> str:
    """Return a workload of one turn a session as guidellm reads it, one JSON object a line."""
    turns = [session.turns[0] for session in workload.sessions]
    lines = [{"prompt": turn.text, "output_tokens_count": turn.num_output_tokens} for turn in turns]
    return "".join(json.dumps(line) + "\n" for line in lines)


class OtherLoadError(Exception):
    """The tool has not had the requests answered that it was given."""


class _Guidellm:
    """The tool in an environment of its own.

    Attributes:
        version: of guidellm.
        num_repeated: rounds that were repeated, because it had lost a request.
    """

    def __init__(self, python: str, one: Running, model_directory: str, folder: Path) -> None:
        self._python = python
        self._one = one
        self._model_directory = model_directory
        self._folder = folder
        self.num_repeated = 0
        code = "import importlib.metadata as m; print(m.version('guidellm'))"
        self.version = self._run("-c", code).strip()

    def measure(self, workload: Workload, num_clients: int) -> Figures:
        """Let so many clients work a workload off.

        Raises:
            OtherLoadError: not all of its requests were answered.
        """
        data, written = self._folder / "prompts.jsonl", self._folder / "report.json"
        data.write_text(data_of(workload))
        written.unlink(missing_ok=True)
        target = self._one.target
        # It asks for usage in every chunk, which our server does not send; the last one has it.
        backend = (
            f"kind=openai_http,target={target.url},model={target.model},"
            "request_format=/v1/chat/completions,"
            "extras.body.stream_options.continuous_usage_stats=false,extras.body.temperature=0"
        )
        self._run(
            *("-m", "guidellm", "run", "--disable-console"),
            *("--backend", backend),
            *("--profile", f"kind=concurrent,streams={num_clients}"),
            *("--constraint", f"kind=max_requests,count={len(workload.sessions)}"),
            *("--tokenizer", f"kind=huggingface_auto,model={self._model_directory}"),
            *("--data", f"kind=json_file,path={data}"),
            *("--output", f"kind=json,path={written}"),
        )
        return read_figures(json.loads(written.read_text()), len(workload.sessions))

    def _run(self, *words: str) -> str:
        result = subprocess.run(
            [self._python, *words],
            cwd=self._folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            message = f"guidellm failed: {(result.stderr or result.stdout)[-2000:]}"
            raise RuntimeError(message)
        return result.stdout


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", metavar="PYTHON", help="interpreter that has guidellm")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--requests", type=int, default=9, help="of one client or of two")
    parser.add_argument("--engine", default="pytorch")
    return parser.parse_args()


async def _measure_both(
    tool: _Guidellm, running: Sequence[Running], workload: Workload, num_clients: int
) -> tuple[RunRecord, Figures]:
    """Let both tools' clients work the workload off at once; again where guidellm loses a request.

    Raises:
        OtherLoadError: it lost some each time.
    """
    backwards = replace(workload, sessions=workload.sessions[::-1])
    target = running[0].target
    num_lost = 0
    while True:
        await asyncio.to_thread(wait_until_idle, running)
        theirs = asyncio.create_task(asyncio.to_thread(tool.measure, workload, num_clients))
        await asyncio.to_thread(_wait_for_first, target, theirs.done)
        run = await run_closed(target, backwards, num_clients)
        try:
            return run, await theirs
        except OtherLoadError as error:
            num_lost += 1
            if num_lost > _MAX_REPEATS:
                raise
            tool.num_repeated += 1
            print(f"again: {error}", file=sys.stderr, flush=True)


def _wait_for_first(target: Target, is_over: Callable[[], bool]) -> None:
    """Wait until the server has a request of the other tool, or that tool has ended."""
    url = f"{target.url}/api/models/{target.model}"
    while not is_over():
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own server
            report = json.load(reply)
        if report["num_running"] or report["num_waiting"]:
            return
        time.sleep(_POLL_S)


def _compare(
    rounds: Mapping[int, Sequence[tuple[Figures, Figures]]], figures: dict[str, object]
) -> dict[str, Verdict]:
    """Add each figure's ratio to the results and write the table; return the verdicts."""
    verdicts: dict[str, Verdict] = {}
    rows = []
    for level, pairs in rounds.items():
        for name, tolerance in TOLERANCES.items():
            mine = [pair[0][name] for pair in pairs]
            theirs = [pair[1][name] for pair in pairs]
            ratio = paired_ratio(mine, theirs)
            bar = f"{name}_{level}_clients"
            verdicts[bar] = judge_within(ratio, tolerance)
            figures[f"ratio_{bar}"] = ratio.rounded
            rows.append(
                (
                    level,
                    name,
                    f"{statistics.median(mine):.4g}",
                    f"{statistics.median(theirs):.4g}",
                    show_ratio(ratio.rounded),
                    f"{tolerance:.0%}",
                    verdicts[bar].value,
                )
            )
    head = ("clients", "figure", "ours", "guidellm", "ratio", "tolerance", "within it")
    print(write_table("outside_tool", head, rows))
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
