"""Shows on standard error how far a download or a conversion is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mm_orch.cli import terminal

if TYPE_CHECKING:
    from mm_orch.models.progress import Progress

_LINES_PER_STAGE = 10


def make_progress() -> Progress:
    """Return a moving bar for a person, or a line now and then for a log."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class BarProgress:
    """One tqdm bar a stage."""

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, label: str, total: int | None) -> None:
        """Show a bar, or a counter where the size is unknown."""
        from tqdm import tqdm

        self._bar = tqdm(desc=label, total=total, unit_scale=True, file=sys.stderr, leave=False)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        self._bar.update(amount)

    def finish(self) -> None:
        """Take the bar away."""
        self._bar.close()


class LineProgress:
    """A line when a stage begins, and one for about every tenth of it."""

    def __init__(self) -> None:
        self._label = ""
        self._total: int | None = None
        self._done = 0
        self._num_lines = 0

    def start(self, label: str, total: int | None) -> None:
        """Name the stage."""
        self._label, self._total = label, total
        self._done = self._num_lines = 0
        terminal.remark(f"{label} ...")

    def advance(self, amount: int) -> None:
        """Print a line when another tenth is complete."""
        self._done += amount
        if not self._total:
            return
        num_lines = min(self._done * _LINES_PER_STAGE // self._total, _LINES_PER_STAGE)
        if num_lines > self._num_lines:
            self._num_lines = num_lines
            terminal.remark(f"{self._label}: {num_lines * 100 // _LINES_PER_STAGE}%")

    def finish(self) -> None:
        """Say nothing more: the next stage or the result follows."""
