"""How fast models answered lately, how often they failed, and how long they took to load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.events import ModelLoaded, RequestFinished, RequestStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event

# Of each new measurement; the last ten or so count.
_NEW_SHARE = 0.2
# Fewer tokens say more of the clock than of the model.
_MIN_TOKENS = 8
# A failure is half forgotten after so long: what is never asked could not show that it is well.
_HALF_LIFE_S = 120.0
# So many good answers are taken for granted.
_PRIOR = 3.0
_FAILURES = {RequestStatus.ERROR, RequestStatus.TIMEOUT}


@dataclass(slots=True)
class _Pace:
    tokens_per_s: float | None = None
    load_s: float | None = None
    num_good: float = 0.0
    num_bad: float = 0.0
    counted_at_s: float = 0.0

    def fade(self, now_s: float) -> None:
        """Let what was counted so far weigh less."""
        left = 0.5 ** (max(0.0, now_s - self.counted_at_s) / _HALF_LIFE_S)
        self.num_good *= left
        self.num_bad *= left
        self.counted_at_s = now_s


class ModelPace:
    """An observer; asks nobody, so that choosing costs nothing.

    Args:
        models: those that are watched.
        clock: monotonic seconds.
    """

    def __init__(self, models: Iterable[str], clock: Clock) -> None:
        self._clock = clock
        self._pace_by_model = {model: _Pace() for model in models}

    def observe(self, event: Event) -> None:
        """Take one fact."""
        match event:
            case RequestFinished() if event.model in self._pace_by_model:
                self._count_end(self._pace_by_model[event.model], event)
            case ModelLoaded() if event.model in self._pace_by_model:
                self._pace_by_model[event.model].load_s = event.duration_s
            case _:
                pass

    def tokens_per_s(self, model: str) -> float | None:
        """Return how fast one answer grew, lately; None before it was measured."""
        return self._pace_by_model[model].tokens_per_s

    def load_s(self, model: str) -> float | None:
        """Return how long the model took to load last; None before it was loaded."""
        return self._pace_by_model[model].load_s

    def failure_ratio(self, model: str) -> float:
        """Return the share of failures of the last minutes, smoothed, from 0 to below 1."""
        pace = self._pace_by_model[model]
        pace.fade(self._clock())
        return pace.num_bad / (pace.num_bad + pace.num_good + _PRIOR)

    def _count_end(self, pace: _Pace, event: RequestFinished) -> None:
        pace.fade(self._clock())
        if event.status in _FAILURES:
            pace.num_bad += 1.0
        if event.status is not RequestStatus.SUCCESS:
            return
        pace.num_good += 1.0
        num_tokens = event.num_generated_tokens / max(1, len(event.finish_reasons))
        if event.ttft_s is None or num_tokens < _MIN_TOKENS or event.total_s <= event.ttft_s:
            return
        measured = (num_tokens - 1) / (event.total_s - event.ttft_s)
        old = pace.tokens_per_s
        pace.tokens_per_s = measured if old is None else old + _NEW_SHARE * (measured - old)
