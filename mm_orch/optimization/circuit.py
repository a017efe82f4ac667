"""Whether an engine may be tried with a model again: a circuit breaker without I/O.

    closed --(fault)--> open --(back-off is over)--> half open --(it starts)--> closed
                          ^                              |
                          +--------(it fails again)------+

Only an engine's faults come here. Callers' errors and overload never do.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from mm_orch.optimization.backoff import HEALTHY_AFTER_S, restart_delay_s

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock

_MAX_STEP_FAULTS = 3
"""Requests in a row that an engine failed before it is no longer trusted."""

_COST_FACTOR = 4.0
_MAX_DELAY_S = 600.0


class CircuitState(enum.Enum):
    """The three states, as reports and metrics name them."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Circuit:
    """The faults of one engine with one model.

    Attributes:
        reason: what opened it last, for people; empty while it is closed.
    """

    def __init__(self, clock: Clock) -> None:
        self.reason = ""
        self._clock = clock
        self._is_tripped = False
        self._retry_at_s = 0.0
        self._num_failures = 0
        self._num_step_faults = 0

    @property
    def state(self) -> CircuitState:
        """Open until its back-off is over, then half open until a start succeeds."""
        if not self._is_tripped:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self.wait_s > 0 else CircuitState.HALF_OPEN

    @property
    def wait_s(self) -> float:
        """Seconds until the engine may be started; 0 when it may now."""
        return max(0.0, self._retry_at_s - self._clock()) if self._is_tripped else 0.0

    def trip(self, reason: str, *, lived_s: float = 0.0, cost_s: float = 0.0) -> None:
        """Open it: a start failed, or a worker crashed or hung.

        Args:
            reason: for people.
            lived_s: how long the worker had served; a long life forgives earlier failures.
            cost_s: what the failed start took; trying again may take a fifth of the time at most.
        """
        if lived_s >= HEALTHY_AFTER_S:
            self._num_failures = 0
        self._num_failures += 1
        delay_s = max(restart_delay_s(self._num_failures), cost_s * _COST_FACTOR)
        self._retry_at_s = self._clock() + min(delay_s, _MAX_DELAY_S)
        self._is_tripped = True
        self._num_step_faults = 0
        self.reason = reason

    def count_step_fault(self, reason: str, *, lived_s: float = 0.0) -> bool:
        """Count a request that the running engine failed; return whether that opened the circuit.

        One request counts once, however often it was tried. Arguments as of :meth:`trip`.
        """
        self._num_step_faults += 1
        if self._num_step_faults < _MAX_STEP_FAULTS or self._is_tripped:
            return False
        self.trip(reason, lived_s=lived_s)
        return True

    def record_success(self) -> None:
        """Note that a request has been answered."""
        self._num_step_faults = 0

    def close(self) -> None:
        """Note that a worker is ready; failures are forgiven only once it has lived."""
        self._is_tripped = False
        self._num_step_faults = 0
        self.reason = ""
