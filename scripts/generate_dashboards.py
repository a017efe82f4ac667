"""Writes the Grafana dashboards into deploy/grafana/dashboards."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards import latency_and_cache, models_and_engines, overview
from dashboards.board import render

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "deploy/grafana/dashboards"
REMEDY = "run: python scripts/generate_dashboards.py"

_MAKERS = (overview.board, models_and_engines.board, latency_and_cache.board)


def render_all() -> dict[Path, str]:
    """Return each dashboard's text by its file."""
    boards = [make() for make in _MAKERS]
    return {DIRECTORY / f"{board.uid}.json": render(board) for board in boards}


def main() -> int:
    """Write the files, or with --check say whether they are up to date."""
    content_by_path = render_all()
    unknown = [path for path in DIRECTORY.glob("*.json") if path not in content_by_path]
    stale = [
        path
        for path, content in content_by_path.items()
        if not path.exists() or path.read_text() != content
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the code makes; {REMEDY}")
        for path in unknown:
            print(f"{path.relative_to(ROOT)} is made by no code: delete it or write its code")
        return 1 if stale or unknown else 0
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(content_by_path[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
