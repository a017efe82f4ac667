"""Measures a server and says where the report is."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.benchmarking.measuring import measure
from mm_orch.benchmarking.page import to_page
from mm_orch.benchmarking.plan import QUICK_PLAN, Plan
from mm_orch.benchmarking.report import ReportFormat, write_report
from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.benchmark_subject import open_subject
from mm_orch.cli.progress import make_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.benchmarking.report import Report
    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import LoadedConfig

_DEFAULT_OUTPUT = Path("benchmark-results")
_MIB = 1 << 20


def run_benchmark(loaded: LoadedConfig, arguments: Arguments) -> int:
    """Measure, write the report, say where it is; return the exit code.

    Raises:
        MuAIError: there is nothing to measure, or it cannot be started.
    """
    directory = arguments.benchmark_output or _DEFAULT_OUTPUT
    wanted = ReportFormat(arguments.benchmark_format or ReportFormat.JSON.value)
    plan = QUICK_PLAN if arguments.quick else Plan()
    if arguments.objective is not None:
        plan = replace(plan, objective=arguments.objective)
    # Ended by a signal, this process must not leave its server behind.
    signal.signal(signal.SIGTERM, _leave)
    try:
        # Before minutes of work, not after.
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _fail_to_hold(directory, error)
    with open_subject(loaded, arguments) as subject:
        report = measure(subject, plan, make_progress())
    html = to_page(report)
    try:
        figures, page = write_report(report, html, directory, wanted)
    except OSError as error:
        return _fail_to_hold(directory, error)
    for line in _told(report):
        terminal.say(line)
    terminal.say(f"Report: {figures}")
    terminal.say(f"Page with plots: {page}")
    if report.faults:
        terminal.complain(f"some requests failed, such as {report.faults[0]}")
        return exit_codes.FAILED
    return exit_codes.DONE


def _fail_to_hold(directory: Path, error: OSError) -> int:
    terminal.complain(f"{directory} cannot hold the report: {error.strerror or error}.")
    return exit_codes.FAILED


def _told(report: Report) -> Iterator[str]:
    if report.ready_s is not None:
        memory = (report.peak_memory_bytes or 0) / _MIB
        yield f"start-up: ready after {report.ready_s:.2f} s; memory: at most {memory:.0f} MiB"
    for summary in report.summaries:
        yield (
            f"{summary.workload.replace('_', ' ')}, {summary.load}:"
            f" {summary.output_tokens_per_s:.1f} tokens/s,"
            f" first text after {summary.ttft.p50_s:.3f} s,"
            f" gap {summary.gap.p50_s * 1000:.1f} ms,"
            f" end to end {summary.total.p50_s:.2f} s (medians)"
        )
    best = report.best_goodput
    if best is not None and best.num_good:
        rate = f"{best.goodput_per_s or 0:.3g} requests/s at {best.load}"
        yield f"goodput: {rate} ({report.objective.words})"
    else:
        yield f"goodput: none, no request met the objective ({report.objective.words})"


def _leave(number: int, frame: object) -> None:  # noqa: ARG001 - signal's own order
    sys.exit(128 + number)
