from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from mm_orch.benchmarking.charts import Chart, Series, draw_bars, draw_lines
from mm_orch.benchmarking.objective import DEFAULT_OBJECTIVE
from mm_orch.benchmarking.page import to_page
from mm_orch.benchmarking.report import LengthSummary, Report, ReportFormat, write_report
from mm_orch.benchmarking.summary import RunSummary, Spread, TurnSummary
from mm_orch.benchmarking.tables import to_csv, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def summary(num_clients: int = 1, workload: str = "short_chat", **given: object) -> RunSummary:
    spread = Spread(p50_s=0.1 * num_clients, p95_s=0.2, p99_s=0.3, max_s=0.4)
    values: dict[str, object] = {
        "workload": workload,
        "load": f"{num_clients} clients",
        "num_requests": 4,
        "num_failed": 0,
        "num_prompt_tokens": 400,
        "num_output_tokens": 256,
        "num_cached_tokens": 100,
        "wall_s": 2.0,
        "ttft": spread,
        "gap": spread,
        "time_per_token": spread,
        "total": spread,
        "generator_ms_per_token": 0.02,
        "num_good": 3,
    }
    return RunSummary(**{**values, **given})  # type: ignore[arg-type]  # by name


def report(**given: object) -> Report:
    values: dict[str, object] = {
        "date": "2026-01-02 03:04",
        "version": "0.1.0",
        "model": "m<1>",
        "url": "http://127.0.0.1:1",
        "engine": "echo",
        "precision": "int4 on cpu",
        "machine": "a processor",
        "versions": {"muai": "0.1.0", "openvino": "2026.4"},
        "settings": {"seed": "7"},
        "server_settings": {"optimization.cache.enabled": "false"},
        "objective": DEFAULT_OBJECTIVE,
        "ready_s": 4.5,
        "first_answer_s": 0.75,
        "ready_memory_bytes": 2 << 20,
        "peak_memory_bytes": 3 << 20,
        "levels": {1: summary(1), 8: summary(8)},
        "lengths": (
            LengthSummary(prompt_tokens=64, output_tokens=16, run=summary(workload="lengths")),
        ),
        "arrivals": {0.5: summary(load="2 requests/s", offered_per_s=2.2, num_turned_away=1)},
        "turns": (
            TurnSummary(turn=1, ttft=Spread(), num_prompt_tokens=8, num_cached_tokens=0),
            TurnSummary(turn=2, ttft=Spread(), num_prompt_tokens=16, num_cached_tokens=12),
        ),
        "workloads": (summary(8, "conversations"),),
        "notes": ("a note",),
        "faults": (),
    }
    return Report(**{**values, **given})  # type: ignore[arg-type]  # by name


def test_json_holds_the_facts_and_every_run(tmp_path: Path) -> None:
    figures, page = write_report(report(), "<p>", tmp_path / "new", ReportFormat.JSON)

    content = json.loads(figures.read_text())
    assert (content["model"], content["peak_memory_bytes"]) == ("m<1>", 3 << 20)
    assert [run["num_clients"] for run in content["runs"]] == [1, 8]
    assert content["runs"][0]["output_tokens_per_s"] == 128.0
    assert content["runs"][0]["ttft_p95_s"] == 0.2
    assert content["other_workloads"][0]["workload"] == "conversations"
    assert (content["ready_s"], content["objective"]["ttft_ms"]) == (4.5, 500)
    assert (content["versions"]["openvino"], content["settings"]["seed"]) == ("2026.4", "7")
    [length] = content["lengths"]
    assert (length["prompt_length"], length["output_length"]) == (64, 16)
    [arrivals] = content["arrivals"]
    assert (arrivals["share_of_most"], arrivals["offered_per_s"]) == (0.5, 2.2)
    assert (arrivals["num_turned_away"], arrivals["goodput_per_s"]) == (1, 1.5)
    assert [turn["cached_share"] for turn in content["turns"]] == [0.0, 0.75]
    assert (page.name, page.read_text()) == ("benchmark.html", "<p>")


def test_csv_has_a_line_a_run(tmp_path: Path) -> None:
    figures, _ = write_report(report(), "", tmp_path, ReportFormat.CSV)

    rows = list(csv.DictReader(io.StringIO(figures.read_text())))
    kinds = ["short_chat", "short_chat", "lengths", "short_chat", "conversations"]
    assert [row["workload"] for row in rows] == kinds
    assert rows[1]["cached_share"] == "0.25"
    assert [row["offered_per_s"] for row in rows] == ["", "", "", "2.2", ""]
    assert to_csv([]) == "\n"


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    page = to_page(report(faults=("session <2> failed",)))

    assert "m&lt;1&gt;" in page
    assert "m<1>" not in page
    assert "session &lt;2&gt; failed" in page
    assert "3 MiB" in page
    assert page.count("<svg") == 13
    for stated in ("4.50 s", "openvino 2026.4", "first text within 500 ms", "seed", "a processor"):
        assert stated in page
    assert "<dt>optimization.cache.enabled</dt><dd>false</dd>" in page
    # The only address is the server's own, and the name of SVG's language.
    assert page.count("http") == page.count("http://www.w3.org/2000/svg") + 1
    assert not re.search(r"\b(src|href|url|@import)\b *[=(]", page)


def test_the_page_says_what_it_cannot_know_of_a_server_that_ran_already() -> None:
    page = to_page(
        report(ready_s=None, ready_memory_bytes=None, peak_memory_bytes=None, server_settings={})
    )

    assert page.count("not known: the server ran already") == 2
    assert "of the load; the server&#x27;s is not known" in page
    assert "Settings of the server" not in page


def test_a_cache_that_nothing_is_told_of_has_no_plot_and_no_rate() -> None:
    untold = summary(is_cache_told=False)
    page = to_page(report(levels={1: untold}, lengths=(), arrivals={}, workloads=(untold,)))

    assert "not told" in page
    assert "Prompt tokens taken from the cache" not in page
    assert "Arrivals" not in page


def test_goodput_is_that_of_the_load_that_gave_most() -> None:
    best, less = summary(8, num_good=4), summary(num_good=2)

    assert report(levels={1: less, 8: best}, arrivals={}).best_goodput == best
    assert report(levels={8: best}, arrivals={0.5: less}).best_goodput == less
    assert report(levels={}, arrivals={}).best_goodput is None


@pytest.mark.parametrize("draw", [draw_lines, draw_bars])
def test_a_chart_is_well_formed_and_labelled(draw: Callable[[Chart], str]) -> None:
    chart = Chart(
        title="Speed & more",
        places=("1", "8"),
        x_label="clients at once",
        y_label="tokens per second",
        series=(Series("ours", (10.0, 30.0)), Series("theirs", (0.0, 40.0))),
    )

    root = ET.fromstring(draw(chart))  # noqa: S314 - made by the line itself

    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {"Speed & more", "clients at once", "tokens per second", "ours", "theirs"} <= texts
    assert {"1", "8", "0", "50"} <= texts
    marks = [*root.iter(f"{SVG}circle"), *root.iter(f"{SVG}rect")]
    heights = [float(mark.get("cy") or mark.get("y") or 0) for mark in marks]
    assert all(0 <= height <= 356 for height in heights)


def test_a_chart_of_nothing_is_drawn_too() -> None:
    empty = Chart(title="t", places=(), x_label="x", y_label="y", series=(Series("s", ()),))

    assert draw_lines(empty).endswith("</svg>")
    assert draw_bars(empty).endswith("</svg>")


def test_a_markdown_table() -> None:
    assert to_markdown(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"
