"""Which steps are not worth trying again yet."""

from __future__ import annotations

_FIRST_REST = 20
_MAX_REST = 640


class Backoff:
    """Moves that did not help rest for 20 windows, then twice as long after each further time.

    What was learned holds for one level of load: another one begins anew.
    """

    def __init__(self) -> None:
        self._num_failures: dict[tuple[str, str], int] = {}
        self._until: dict[tuple[str, str], int] = {}

    def is_resting(self, move: tuple[str, str], now: int) -> bool:
        """Whether it is too early to try this again; ``now`` counts windows."""
        return now < self._until.get(move, 0)

    def fail(self, move: tuple[str, str], now: int) -> int:
        """Note that a move did not help; return for how many windows it rests."""
        num_failures = self._num_failures.get(move, 0)
        self._num_failures[move] = num_failures + 1
        rest = min(_MAX_REST, _FIRST_REST << num_failures)
        self._until[move] = now + rest
        return rest

    def succeed(self, move: tuple[str, str], opposite: tuple[str, str], now: int) -> None:
        """Note that a move helped: others may now help too, but not its undoing."""
        self._until.clear()
        self._num_failures.pop(move, None)
        self.fail(opposite, now)

    def clear(self) -> None:
        """Begin anew."""
        self._num_failures.clear()
        self._until.clear()
