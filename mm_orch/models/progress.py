"""How long work on model files tells of itself."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told what is done now and how far it is; called from the thread that works."""

    def start(self, label: str, total: int | None) -> None:
        """A stage begins, of so many units (bytes or tensors), or of unknown size."""

    def advance(self, amount: int) -> None:
        """So many units more are done."""

    def finish(self) -> None:
        """The stage is over, well or not."""


class SilentProgress:
    """Tells nobody."""

    def start(self, label: str, total: int | None) -> None:
        """Ignore it."""

    def advance(self, amount: int) -> None:
        """Ignore it."""

    def finish(self) -> None:
        """Ignore it."""
