"""The report of ``--benchmark``: what was measured on what, as JSON, CSV and a page with plots."""

from __future__ import annotations

import enum
import json
import os
import platform
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.benchmarking.charts import Chart, Series, draw_lines
from mm_orch.benchmarking.summary import RunSummary
from mm_orch.benchmarking.tables import row_of, to_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MIB = 1 << 20
_CPU_INFO = Path("/proc/cpuinfo")


class ReportFormat(enum.Enum):
    """How the figures are written; the page with plots is always written too."""

    JSON = "json"
    CSV = "csv"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one ``--benchmark`` found.

    Attributes:
        date: day and time, UTC.
        engine: that answered, or empty where the server does not say.
        peak_memory_bytes: of the server's processes; None for a server that was not started here.
        levels: one summary a number of clients, by that number.
        workloads: other workloads at one load each.
        notes: what a reader should know.
        faults: requests that failed.
    """

    date: str
    version: str
    model: str
    url: str
    engine: str
    machine: str
    peak_memory_bytes: int | None
    levels: dict[int, RunSummary]
    workloads: tuple[RunSummary, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def summaries(self) -> tuple[RunSummary, ...]:
        """Every run's summary."""
        return (*self.levels.values(), *self.workloads)


def describe_machine() -> str:
    """Return the processor, its cores and the Python version."""
    name = platform.processor() or platform.machine()
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write_report(report: Report, directory: Path, wanted: ReportFormat) -> tuple[Path, Path]:
    """Write the figures and the page; return where they are.

    Raises:
        OSError: the directory cannot be made or written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    figures = directory / f"benchmark.{wanted.value}"
    content = to_json(report) if wanted is ReportFormat.JSON else to_csv(report.summaries)
    figures.write_text(content, encoding="utf-8")
    page = directory / "benchmark.html"
    page.write_text(to_page(report), encoding="utf-8")
    return figures, page


def to_json(report: Report) -> str:
    """Return the report as JSON: the facts, and one object a run."""
    facts = {
        name: getattr(report, name)
        for name in report.__struct_fields__
        if name not in {"levels", "workloads"}
    }
    runs = [{"num_clients": n, **row_of(summary)} for n, summary in report.levels.items()]
    others = [row_of(summary) for summary in report.workloads]
    return json.dumps({**facts, "runs": runs, "other_workloads": others}, indent=2) + "\n"


def to_page(report: Report) -> str:
    """Return one HTML page that needs nothing else."""
    memory = (
        f"{report.peak_memory_bytes / _MIB:.0f} MiB" if report.peak_memory_bytes else "not known"
    )
    facts = {
        "Model": report.model,
        "Engine": report.engine or "not told",
        "Server": report.url,
        "Machine": report.machine,
        "Date": report.date,
        "Version": report.version,
        "Peak memory of the server's processes": memory,
    }
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*report.notes, *report.faults))
    charts = "\n".join(draw_lines(chart) for chart in _charts(report)) if report.levels else ""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Benchmark of {escape(report.model)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto; max-width: 1320px;
  padding: 0 1rem }}
dl {{ display: grid; grid-template-columns: max-content auto; gap: 0 1.5rem }}
dt {{ color: #666 }} dd {{ margin: 0 }}
figure {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) {{ text-align: left }}
</style>
<h1>Benchmark of {escape(report.model)}</h1>
<dl>{"".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())}</dl>
<figure>{charts}</figure>
{_table(report.summaries)}
<ul>{notes}</ul>
</html>
"""


def _charts(report: Report) -> list[Chart]:
    places = tuple(str(num_clients) for num_clients in report.levels)

    def series(name: str, figure: Callable[[RunSummary], float]) -> Series:
        return Series(name, tuple(figure(summary) for summary in report.levels.values()))

    def chart(title: str, y_label: str, *lines: Series) -> Chart:
        return Chart(
            title=title, places=places, x_label="clients at once", y_label=y_label, series=lines
        )

    return [
        chart(
            "Throughput",
            "output tokens per second",
            series("output tokens", lambda s: s.output_tokens_per_s),
        ),
        chart(
            "Time to the first text",
            "seconds",
            series("median", lambda s: s.ttft.p50_s),
            series("p95", lambda s: s.ttft.p95_s),
        ),
        chart(
            "Gap between pieces of text",
            "milliseconds",
            series("median", lambda s: s.gap.p50_s * 1000),
            series("p95", lambda s: s.gap.p95_s * 1000),
            series("p99", lambda s: s.gap.p99_s * 1000),
        ),
        chart(
            "End to end",
            "seconds",
            series("median", lambda s: s.total.p50_s),
            series("p95", lambda s: s.total.p95_s),
        ),
    ]


def _table(summaries: Sequence[RunSummary]) -> str:
    head = (
        "workload",
        "load",
        "requests",
        "failed",
        "requests/s",
        "tokens/s",
        "TTFT p50, p95 (s)",
        "gap p50, p99 (ms)",
        "end to end p50, p95 (s)",
        "cached",
    )
    rows = [
        (
            summary.workload,
            summary.load,
            str(summary.num_requests),
            str(summary.num_failed),
            f"{summary.requests_per_s:.3g}",
            f"{summary.output_tokens_per_s:.1f}",
            f"{summary.ttft.p50_s:.3f}, {summary.ttft.p95_s:.3f}",
            f"{summary.gap.p50_s * 1000:.1f}, {summary.gap.p99_s * 1000:.1f}",
            f"{summary.total.p50_s:.2f}, {summary.total.p95_s:.2f}",
            f"{summary.cached_share:.0%}",
        )
        for summary in summaries
    ]
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows
    )
    return f"<table><tr>{''.join(f'<th>{escape(h)}</th>' for h in head)}</tr>\n{body}</table>"
