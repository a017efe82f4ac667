"""Writes what a benchmark measured, with what it was measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.statistics import Verdict
from mm_orch.benchmarking.charts import draw_bars
from mm_orch.benchmarking.machine import cpu_name
from mm_orch.benchmarking.tables import to_markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.benchmarking.charts import Chart

_FOLDER = Path(__file__).parent / "results"


def report(
    name: str, figures: dict[str, object], faults: list[str], verdicts: Mapping[str, Verdict]
) -> int:
    """Print the figures and write them; return 0 when every bar is met and nothing failed."""
    figures["faults"] = faults
    figures["verdicts"] = {bar: verdict.value for bar, verdict in verdicts.items()}
    for key, value in figures.items():
        print(f"{key}: {value}")
    print(f"written: {write_results(name, figures).name}")
    is_met = bool(verdicts) and all(verdict is Verdict.MET for verdict in verdicts.values())
    return 0 if is_met and not faults else 1


def write_results(name: str, figures: dict[str, object]) -> Path:
    """Write benchmarks/results/NAME.json and return its path."""
    _FOLDER.mkdir(exist_ok=True)
    path = _FOLDER / f"{name}.json"
    # Results that were written just before are no change of what is measured.
    others = _git("status", "--porcelain", "--", ":/", f":(top,exclude)benchmarks/{_FOLDER.name}")
    content = {
        "commit": _git("rev-parse", "--short", "HEAD") + ("-dirty" if others else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        **figures,
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def write_table(name: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write benchmarks/results/NAME.md and return the table."""
    table = to_markdown(head, rows)
    (_FOLDER / f"{name}.md").write_text(table)
    return table


def write_plot(name: str, chart: Chart) -> None:
    """Write benchmarks/results/NAME.svg: bars side by side."""
    (_FOLDER / f"{name}.svg").write_text(draw_bars(chart) + "\n")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    result = subprocess.run(command, cwd=_FOLDER, capture_output=True, text=True, check=False)
    return result.stdout.strip()
