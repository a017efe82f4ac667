"""Writes requirements.txt from pyproject.toml: everything that the documented commands need."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = "# Made from pyproject.toml by scripts/generate_requirements.py: ranges, with engines.\n"
EXTRAS = ("pytorch", "openvino", "onnx", "search", "postgres")


def render() -> str:
    """Return the file's content."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][name] for name in EXTRAS]
    lines = {*project["dependencies"], *(line for extra in extras for line in extra)}
    return HEADER + "".join(f"{line}\n" for line in sorted(lines))


def main() -> int:
    """Write the file, or with --check say whether it is up to date."""
    path = ROOT / "requirements.txt"
    if "--check" in sys.argv[1:]:
        return 0 if path.read_text() == render() else 1
    path.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
