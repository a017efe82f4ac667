"""Writes the table of layers into docs/architecture.md: the import contract, in modules' words."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from generated_files import write_or_check

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mm_orch"
PAGE = ROOT / "docs/architecture.md"
REASON = "is not what the import contract says; run: python scripts/generate_layer_table.py"

_TABLE = re.compile(r"(<!-- generated: layers -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """Return the page with its table made anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    rows = [
        f"| {number} | `{name}` | {_purpose(name)} |\n"
        for number, layer in enumerate(layers, 1)
        for name in layer.split(" | ")
    ]
    head = "| layer | module | what it is for |\n| --- | --- | --- |\n"
    return _TABLE.sub(lambda match: f"{match[1]}\n{head}{''.join(rows)}\n{match[2]}", page)


def _purpose(name: str) -> str:
    path = PACKAGE / name.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return docstring.splitlines()[0].replace("|", "\\|")


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    return write_or_check({PAGE: render(PAGE.read_text())}, root=ROOT, reason=REASON)


if __name__ == "__main__":
    sys.exit(main())
