"""Writes summaries as a CSV file and as a Markdown table."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.summary import RunSummary, Spread

_SPREADS = ("ttft", "gap", "time_per_token", "total")
_PERCENTILES = ("p50_s", "p95_s", "p99_s", "max_s")


def row_of(summary: RunSummary) -> dict[str, str | int | float]:
    """Return a run's figures by name, with the unit in the name."""
    row: dict[str, str | int | float] = {
        "workload": summary.workload,
        "load": summary.load,
        "num_requests": summary.num_requests,
        "num_failed": summary.num_failed,
        "requests_per_s": _rounded(summary.requests_per_s),
        "output_tokens_per_s": _rounded(summary.output_tokens_per_s),
        "num_prompt_tokens": summary.num_prompt_tokens,
        "num_output_tokens": summary.num_output_tokens,
        "cached_share": _rounded(summary.cached_share),
        "wall_s": _rounded(summary.wall_s),
    }
    for name in _SPREADS:
        spread: Spread = getattr(summary, name)
        for percentile in _PERCENTILES:
            row[f"{name}_{percentile}"] = _rounded(getattr(spread, percentile))
    row["generator_ms_per_token"] = _rounded(summary.generator_ms_per_token)
    return row


def to_csv(summaries: Sequence[RunSummary]) -> str:
    """Return a CSV text with a head line, one line a run."""
    rows = [row_of(summary) for summary in summaries]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(head), ["---"] * len(head), *[[str(cell) for cell in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
