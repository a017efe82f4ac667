"""What a decoding step costs, fitted to the steps of one window."""

from __future__ import annotations

from mm_orch.tuning.readings import StepCosts

_MIN_STEPS = 20
# In sequences squared: a line through steps of one size has no slope.
_MIN_VARIANCE = 0.25


class StepFit:
    """Least squares of durations over batch sizes, in constant memory."""

    __slots__ = ("_batch", "_batch_squared", "_duration_s", "_num_steps", "_product")

    def __init__(self) -> None:
        self._num_steps = 0
        self._batch = 0
        self._batch_squared = 0
        self._duration_s = 0.0
        self._product = 0.0

    def add(self, batch_size: int, duration_s: float) -> None:
        """Count one step in which each sequence generated."""
        self._num_steps += 1
        self._batch += batch_size
        self._batch_squared += batch_size * batch_size
        self._duration_s += duration_s
        self._product += batch_size * duration_s

    def find(self) -> StepCosts | None:
        """Return the line, or None where sizes or steps are too few, or it falls."""
        num = self._num_steps
        if num < _MIN_STEPS:
            return None
        variance = self._batch_squared / num - (self._batch / num) ** 2
        if variance < _MIN_VARIANCE:
            return None
        covariance = self._product / num - self._batch / num * self._duration_s / num
        slope = covariance / variance
        fixed = (self._duration_s - slope * self._batch) / num
        if slope < 0 or fixed < 0:
            return None
        return StepCosts(fixed_s=fixed, per_sequence_s=slope)
