"""Writes into docs/metrics.md what each series tells: the help text that it is made with."""

from __future__ import annotations

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path

from generated_files import write_or_check

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mm_orch/monitoring"
PAGE = ROOT / "docs/metrics.md"
REASON = "is not what the series say; run: python scripts/generate_metrics_table.py"

# Name, type and labels are written by hand, and tested; what follows them is made here.
_ROW = re.compile(r"^(\| `(\w+)` \| \w+ \| [^|]+ \|).*$", re.MULTILINE)


def render(page: str) -> str:
    """Return the page with the last column of its table made anew."""
    texts = read_texts()

    def fill(row: re.Match[str]) -> str:
        if row[2] not in texts:
            raise SystemExit(f"{PAGE.name} has {row[2]}, which no series is made with.")
        return f"{row[1]} {texts[row[2]].removesuffix('.')} |"

    return _ROW.sub(fill, page)


def read_texts() -> dict[str, str]:
    """Return the help text of each series: what follows its name where it is made."""
    texts: dict[str, str] = {}
    for path in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                for name, text in pairwise(node.args):
                    match name, text:
                        case ast.Constant(value=str(named)), ast.Constant(value=str(told)):
                            texts[named] = told
    return texts


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    return write_or_check({PAGE: render(PAGE.read_text())}, root=ROOT, reason=REASON)


if __name__ == "__main__":
    sys.exit(main())
