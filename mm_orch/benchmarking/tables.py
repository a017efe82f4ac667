"""Writes summaries as a CSV file and as a Markdown table."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.summary import RunSummary, Spread, TurnSummary

_SPREADS = ("ttft", "gap", "time_per_token", "total", "late")
_PERCENTILES = ("p50_s", "p95_s", "p99_s", "max_s")


def row_of(summary: RunSummary) -> dict[str, str | int | float | None]:
    """Return a run's figures by name, with the unit in the name; None is not known."""
    row: dict[str, str | int | float | None] = {
        "workload": summary.workload,
        "load": summary.load,
        "num_requests": summary.num_requests,
        "num_failed": summary.num_failed,
        "requests_per_s": _rounded(summary.requests_per_s),
        "output_tokens_per_s": _rounded(summary.output_tokens_per_s),
        "num_prompt_tokens": summary.num_prompt_tokens,
        "num_output_tokens": summary.num_output_tokens,
        "cached_share": _rounded(summary.cached_share) if summary.is_cache_told else None,
        "wall_s": _rounded(summary.wall_s),
        "offered_per_s": _rounded_or_none(summary.offered_per_s),
        "num_turned_away": summary.num_turned_away,
        "num_good": summary.num_good,
        "good_share": _rounded_or_none(summary.good_share),
        "goodput_per_s": _rounded_or_none(summary.goodput_per_s),
    }
    for name in _SPREADS:
        spread: Spread = getattr(summary, name)
        for percentile in _PERCENTILES:
            row[f"{name}_{percentile}"] = _rounded(getattr(spread, percentile))
    row["generator_ms_per_token"] = _rounded(summary.generator_ms_per_token)
    return row


def row_of_turn(turn: TurnSummary) -> dict[str, int | float]:
    """Return the figures of one turn of the conversations by name."""
    spread = {f"ttft_{name}": _rounded(getattr(turn.ttft, name)) for name in _PERCENTILES}
    return {
        "turn": turn.turn,
        "num_prompt_tokens": turn.num_prompt_tokens,
        "num_cached_tokens": turn.num_cached_tokens,
        "cached_share": _rounded(turn.cached_share),
        **spread,
    }


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


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else _rounded(value)


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
