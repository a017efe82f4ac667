"""Writes the Grafana dashboards into deploy/grafana/dashboards."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards import latency_and_cache, models_and_engines, overview
from dashboards.board import Board, render
from generated_files import write_or_check

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "deploy/grafana/dashboards"
REASON = "is not what the code makes; run: python scripts/generate_dashboards.py"

BOARDS = (
    Board(
        "overview",
        "MuAI overview",
        "Whether requests are answered, how fast, and what the machine has left.",
        overview.rows(),
    ),
    Board(
        "models-and-engines",
        "MuAI models and engines",
        "Which engine runs which model, how well, and what happened to them.",
        models_and_engines.rows(),
    ),
    Board(
        "latency-and-cache",
        "MuAI latency and cache",
        "Where a request's time goes, and what the KV cache saves of it.",
        latency_and_cache.rows(),
    ),
)


def main() -> int:
    """Write the files, or with --check say whether they are up to date."""
    content_by_path = {DIRECTORY / f"{board.uid}.json": render(board) for board in BOARDS}
    foreign = [path for path in DIRECTORY.glob("*.json") if path not in content_by_path]
    return write_or_check(content_by_path, root=ROOT, reason=REASON, superfluous=foreign)


if __name__ == "__main__":
    sys.exit(main())
