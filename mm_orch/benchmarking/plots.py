"""Which plots the page of ``--benchmark`` shows, section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.benchmarking.charts import Chart, Series, draw_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.benchmarking.report import LengthSummary, Report
    from mm_orch.benchmarking.summary import RunSummary

_CLIENTS = "clients at once"
_SHARE = "arrivals, as a share of the most requests/s that clients got"
_TURN = "turn of the conversation"
_PROMPT = "prompt tokens"


def draw_levels(report: Report) -> list[str]:
    """Return what clients that wait for their answers see, by their number."""
    levels = report.levels
    return [
        _by_load(levels, "Throughput", _CLIENTS, "output tokens per second", {
            "output tokens": lambda s: s.output_tokens_per_s,
        }),
        _by_load(levels, "Requests", _CLIENTS, "requests per second", _REQUESTS),
        _by_load(levels, "Time to the first text", _CLIENTS, "seconds", _TTFT),
        _by_load(levels, "Gap between pieces of text", _CLIENTS, "milliseconds", {
            "median": lambda s: s.gap.p50_s * 1000,
            "p95": lambda s: s.gap.p95_s * 1000,
            "p99": lambda s: s.gap.p99_s * 1000,
        }),
        _by_load(levels, "End to end", _CLIENTS, "seconds", _TOTAL),
    ]  # fmt: skip


def draw_arrivals(report: Report) -> list[str]:
    """Return what requests see that arrive whether or not others are answered, by their rate."""
    arrivals = report.arrivals
    offered: dict[str, Callable[[RunSummary], float]] = {
        "offered": lambda s: s.offered_per_s or 0.0,
        **_REQUESTS,
    }
    return [
        _by_load(arrivals, "Offered, answered, good", _SHARE, "requests per second", offered),
        _by_load(
            arrivals, "Time to the first text, from when it was due", _SHARE, "seconds", _TTFT
        ),
        _by_load(arrivals, "End to end, from when it was due", _SHARE, "seconds", _TOTAL),
    ]


def draw_lengths(report: Report) -> list[str]:
    """Return latency by prompt length, a line for each output length."""
    return [
        _by_length(report, "Time to the first text", "seconds, median", lambda s: s.ttft.p50_s),
        _by_length(report, "End to end", "seconds, median", lambda s: s.total.p50_s),
        _by_length(
            report,
            "Time for each further token",
            "milliseconds, median",
            lambda s: s.time_per_token.p50_s * 1000,
        ),
    ]


def draw_turns(report: Report) -> list[str]:
    """Return what conversations see, turn by turn."""
    places = tuple(str(turn.turn) for turn in report.turns)
    ttft = Chart(
        title="Time to the first text",
        places=places,
        x_label=_TURN,
        y_label="seconds",
        series=(
            Series("median", tuple(turn.ttft.p50_s for turn in report.turns)),
            Series("p95", tuple(turn.ttft.p95_s for turn in report.turns)),
        ),
    )
    if not report.is_cache_told:
        return [draw_lines(ttft)]
    cached = Chart(
        title="Prompt tokens taken from the cache",
        places=places,
        x_label=_TURN,
        y_label="percent",
        series=(Series("hit rate", tuple(turn.cached_share * 100 for turn in report.turns)),),
    )
    return [draw_lines(ttft), draw_lines(cached)]


_REQUESTS: dict[str, Callable[[RunSummary], float]] = {
    "answered": lambda s: s.requests_per_s,
    "met the objective": lambda s: s.goodput_per_s or 0.0,
}
_TTFT: dict[str, Callable[[RunSummary], float]] = {
    "median": lambda s: s.ttft.p50_s,
    "p95": lambda s: s.ttft.p95_s,
}
_TOTAL: dict[str, Callable[[RunSummary], float]] = {
    "median": lambda s: s.total.p50_s,
    "p95": lambda s: s.total.p95_s,
}


def _by_load(
    runs: Mapping[int, RunSummary] | Mapping[float, RunSummary],
    title: str,
    x_label: str,
    y_label: str,
    figures: Mapping[str, Callable[[RunSummary], float]],
) -> str:
    series = tuple(
        Series(name, tuple(figure(one) for one in runs.values()))
        for name, figure in figures.items()
    )
    places = tuple(f"{load:g}" for load in runs)
    return draw_lines(
        Chart(title=title, places=places, x_label=x_label, y_label=y_label, series=series)
    )


def _by_length(
    report: Report, title: str, y_label: str, figure: Callable[[RunSummary], float]
) -> str:
    by_output: dict[int, list[LengthSummary]] = {}
    for length in report.lengths:
        by_output.setdefault(length.output_tokens, []).append(length)
    series = tuple(
        Series(f"{output} output tokens", tuple(figure(length.run) for length in lengths))
        for output, lengths in by_output.items()
    )
    places = dict.fromkeys(str(length.prompt_tokens) for length in report.lengths)
    return draw_lines(
        Chart(title=title, places=tuple(places), x_label=_PROMPT, y_label=y_label, series=series)
    )
