"""The report of ``--benchmark`` as one HTML page: works from a file, in light and in dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mm_orch.benchmarking.page_style import STYLE
from mm_orch.benchmarking.plots import draw_arrivals, draw_lengths, draw_levels, draw_turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mm_orch.benchmarking.report import Report
    from mm_orch.benchmarking.summary import RunSummary

_MIB = 1 << 20
_NOT_KNOWN = "not known: the server ran already"

_HEAD = (
    "workload",
    "load",
    "requests",
    "failed (turned away)",
    "offered/s",
    "answered/s",
    "tokens/s",
    "TTFT p50, p95 (s)",
    "a token p50, p95 (ms)",
    "gap p50, p99 (ms)",
    "end to end p50, p95 (s)",
    "cached",
    "good",
    "goodput/s",
)


def to_page(report: Report) -> str:
    """Return one HTML page that needs nothing else."""
    name = escape(report.model)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Benchmark of {name}</title>
<style>{STYLE}</style>
<body>
<h1>Benchmark of {name}</h1>
{_tiles(report)}
{_definitions(_facts(report))}
{"".join(_sections(report))}
{_section("Every run", _GOOD_SAYS.format(escape(report.objective.words)), _table(report.summaries))}
{_lists(report)}
{_settings(report)}
</body>
</html>
"""


_LEVELS_SAY = "Closed loop: each client sends its next short chat when the one before is answered."
_ARRIVALS_SAY = (
    "Open loop: short chats arrive at random (Poisson), whether or not earlier ones are answered."
    " Latency counts from when a request was due, so waiting is never left out. Beyond what the"
    " server sustains a queue grows, and latency with it as long as arrivals go on."
)
_LENGTHS_SAY = "One request at a time."
_TURNS_SAY = "Each turn sends the whole conversation so far, with the server's own answers."
_GOOD_SAYS = (
    "Good are requests that met the objective: {}. Turned away are those that the server refused"
    " as too many (429, 503); they are among the failed ones. A token is a request's mean time"
    " between its tokens, a gap the time between two pieces of text as they arrived."
)


def _sections(report: Report) -> Iterator[str]:
    if report.levels:
        yield _section("Throughput by concurrency", _LEVELS_SAY, _figure(draw_levels(report)))
    if report.arrivals:
        yield _section("Arrivals", _ARRIVALS_SAY, _figure(draw_arrivals(report)))
    if report.lengths:
        yield _section("Latency by length", _LENGTHS_SAY, _figure(draw_lengths(report)))
    if report.turns:
        yield _section("Conversations", _TURNS_SAY, _figure(draw_turns(report)))


def _tiles(report: Report) -> str:
    shown = [("First answer", f"{report.first_answer_s:.2f} s", "the first request, whole")]
    if report.ready_s is not None:
        shown.insert(0, ("Start-up", f"{report.ready_s:.1f} s", "until it took requests"))
    if report.peak_memory_bytes:
        shown.append(("Memory", f"{report.peak_memory_bytes / _MIB:.0f} MiB", "at most"))
    if report.levels:
        fastest = max(report.levels.values(), key=lambda one: one.output_tokens_per_s)
        rate = f"{fastest.output_tokens_per_s:.4g} tokens/s"
        shown.append(("Most throughput", rate, fastest.load))
    best = report.best_goodput
    if best is not None:
        rate = f"{best.goodput_per_s or 0:.3g} requests/s"
        shown.append(("Goodput", rate, f"{best.load}: {best.good_share or 0:.0%} good"))
    tiles = "".join(
        f"<li><span>{escape(title)}</span><b>{escape(value)}</b><span>{escape(more)}</span></li>"
        for title, value, more in shown
    )
    return f'<ul class="tiles">{tiles}</ul>'


def _facts(report: Report) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return {
        "Model": report.model,
        "Engine": ", ".join(filter(None, (report.engine, report.precision))) or "not told",
        "Server": report.url,
        "Versions": versions or "not told",
        "Machine": report.machine
        + ("" if report.ready_s is not None else " (of the load; the server's is not known)"),
        "Measured": f"{report.date} UTC, by version {report.version}",
        "Objective": report.objective.words,
        "Start-up": _NOT_KNOWN
        if report.ready_s is None
        else f"{report.ready_s:.2f} s from the start of the process until it took requests",
        "Memory": _memory(report),
    }


def _memory(report: Report) -> str:
    if not report.peak_memory_bytes:
        return _NOT_KNOWN if report.ready_s is None else "not told by this system"
    ready = (report.ready_memory_bytes or 0) / _MIB
    return (
        f"{ready:.0f} MiB when ready, at most {report.peak_memory_bytes / _MIB:.0f} MiB"
        " (all processes of the server; pages that they share count twice)"
    )


def _lists(report: Report) -> str:
    notes = [
        f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in (("Notes", report.notes), ("Failures", report.faults))
        if lines
    ]
    return "".join(notes)


def _settings(report: Report) -> str:
    parts = [_section("Settings of the measurement", "", _definitions(report.settings))]
    if report.server_settings:
        says = "What differs from the defaults."
        parts.append(_section("Settings of the server", says, _definitions(report.server_settings)))
    return "".join(parts)


def _section(title: str, says: str, content: str) -> str:
    words = f"<p>{says}</p>" if says else ""
    return f"<h2>{title}</h2>\n{words}\n{content}\n"


def _definitions(values: Mapping[str, str]) -> str:
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    return f"<dl>{lines}</dl>"


def _figure(charts: Iterable[str]) -> str:
    return f"<figure>{''.join(charts)}</figure>"


def _table(summaries: Sequence[RunSummary]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in _HEAD)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(one))}</tr>\n"
        for one in summaries
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _cells(one: RunSummary) -> tuple[str, ...]:
    return (
        one.workload.replace("_", " "),
        one.load,
        str(one.num_requests),
        f"{one.num_failed} ({one.num_turned_away})",
        "" if one.offered_per_s is None else f"{one.offered_per_s:.3g}",
        f"{one.requests_per_s:.3g}",
        f"{one.output_tokens_per_s:.1f}",
        f"{one.ttft.p50_s:.3f}, {one.ttft.p95_s:.3f}",
        f"{one.time_per_token.p50_s * 1000:.1f}, {one.time_per_token.p95_s * 1000:.1f}",
        f"{one.gap.p50_s * 1000:.1f}, {one.gap.p99_s * 1000:.1f}",
        f"{one.total.p50_s:.2f}, {one.total.p95_s:.2f}",
        f"{one.cached_share:.0%}" if one.is_cache_told else "not told",
        "" if one.good_share is None else f"{one.good_share:.0%}",
        "" if one.goodput_per_s is None else f"{one.goodput_per_s:.3g}",
    )
