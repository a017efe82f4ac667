"""The program's entry: ``muai`` and ``python -m mm_orch.main``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.
    """
    from mm_orch.cli.program import run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
