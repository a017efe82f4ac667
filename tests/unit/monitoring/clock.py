from __future__ import annotations


class StillClock:
    """Stands still until the test moves it."""

    # A power of two: differences of nearby floats are exact.
    BEGIN_S = 1024.0

    def __init__(self) -> None:
        self.now_s = self.BEGIN_S

    def __call__(self) -> float:
        return self.now_s
