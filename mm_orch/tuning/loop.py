"""Combines the tuner: reads a window, asks the policy, puts its decision in force, tells of it."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from mm_orch.core.errors import ModelUnavailableError, MuAIError
from mm_orch.core.events import ErrorOccurred
from mm_orch.core.tuning_events import GuardStepTold, TunedValuesRead, TuningDecided
from mm_orch.core.tuning_report import MAX_DECISIONS, TunerReport
from mm_orch.tuning.aftermath import Aftermath
from mm_orch.tuning.decisions import DecisionKind
from mm_orch.tuning.history import DecisionHistory
from mm_orch.tuning.knobs import (
    BATCH_SIZE,
    BATCH_TIMEOUT,
    BATCH_TOKENS,
    CACHE_SIZE,
    KNOBS,
    MIN_BATCH_SIZE,
    QUEUE_CAPACITY,
    describe_change,
)
from mm_orch.tuning.objective import Objective
from mm_orch.tuning.policy import MAX_WINDOWS, TuningPolicy
from mm_orch.tuning.windows import WindowReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mm_orch.core.clock import Clock
    from mm_orch.core.configuration import ChangeSource
    from mm_orch.core.events import Observer
    from mm_orch.tuning.decisions import Decision
    from mm_orch.tuning.kept_memory import KeptMemory
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading

logger = logging.getLogger(__name__)

COMPONENT: Final = "tuner"
_TUNER = "optimization.tuner."
_INTERVAL = f"{_TUNER}tuning_interval_seconds"
_OBSERVATION = f"{_TUNER}observation_window_seconds"
_KEYS_BY_SWITCH = {
    f"{_TUNER}enable_batch_size_tuning": (BATCH_SIZE, BATCH_TOKENS, QUEUE_CAPACITY),
    f"{_TUNER}enable_timeout_tuning": (BATCH_TIMEOUT,),
    f"{_TUNER}enable_cache_size_tuning": (CACHE_SIZE,),
}


class LiveConfiguration(Protocol):
    """The options in force, some of which can be changed while the server runs."""

    def read(self) -> Mapping[str, object]:
        """Values in force by key, such as ``optimization.batcher.max_batch_size``."""

    async def change(
        self, values: Mapping[str, object], *, source: ChangeSource, reason: str = ""
    ) -> tuple[object, ...]:
        """Put all of these in force or none.

        Raises:
            MuAIError: one cannot be changed, for instance by the running engine.
        """


class Tuner:
    """The loop at the side of the path; implements core.tuning_report.TunerReports.

    Args:
        live: the options.
        observer: is told of each decision; :attr:`observer_of_path` must be among those who hear
            the path's events.
        kept: what worked.
        target_p95_ms: for the 95th percentile of latency; None for no target.
        clock: the monotonic clock of the events.
        now: the wall clock, in UTC.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        live: LiveConfiguration,
        *,
        observer: Observer,
        kept: KeptMemory,
        target_p95_ms: float | None,
        clock: Clock = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._live = live
        self._observer = observer
        self._kept = kept
        self._target_p95_ms = target_p95_ms
        self._now = now
        self._pause = pause
        self._windows = WindowReader(clock)
        self._history = DecisionHistory()
        target_s = None if target_p95_ms is None else target_p95_ms / 1000
        self._aftermath = None if target_s is None else Aftermath(target_s)
        self._policy = TuningPolicy(
            Objective(target_s), kept.memory, max_windows=_count_windows(live.read())
        )

    @property
    def observer_of_path(self) -> Observer:
        """Whom the path tells of its events."""
        return self._windows

    async def run(self) -> None:
        """Decide once an interval until cancelled; a fault is logged, and the next one decides."""
        await self._kept.exchange()
        while True:
            await self._pause(_read_int(self._live.read(), _INTERVAL))
            try:
                await self.decide()
            except Exception as error:  # boundary: tuning never fails the server
                logger.exception("tuner: a decision failed")
                self._observer.observe(
                    ErrorOccurred(component=COMPONENT, error_type=type(error).__name__)
                )

    async def decide(self) -> None:
        """Read the window that ends now, and put in force what follows from it."""
        values, reading = self._live.read(), self._windows.read()
        setting = _read_setting(values)
        self._policy.compare_at_most(_count_windows(values))
        decisions = self._policy.take(
            reading,
            setting,
            tunable=frozenset(KNOBS) - _find_switched_off(values),
            min_batch_size=_read_int(values, MIN_BATCH_SIZE),
        )
        self._look_back(reading, setting, decisions)
        for decision in decisions:
            if await self._apply(decision) and decision.kind is DecisionKind.GUARD:
                self._follow(decision, reading)
        self._tell_values()
        await self._kept.exchange()

    def report(self, max_decisions: int = MAX_DECISIONS) -> TunerReport:
        """See TunerReports."""
        values = self._live.read()
        return TunerReport(
            target_p95_ms=self._target_p95_ms,
            window_seconds=_read_int(values, _INTERVAL),
            max_windows=self._policy.max_windows,
            values=_read_setting(values),
            on_trial=dict(self._policy.on_trial),
            switched_off=tuple(sorted(_find_switched_off(values))),
            left_alone=tuple(sorted(self._policy.left_alone)),
            decisions=self._history.newest(max_decisions),
        )

    def _follow(self, step: Decision, reading: Reading) -> None:
        if self._aftermath is not None:
            self._aftermath.follow(step, reading)

    def _look_back(
        self, reading: Reading, setting: Setting, decisions: tuple[Decision, ...]
    ) -> None:
        """Complete the guard's last step, where this window tells what came of it."""
        if self._aftermath is None:
            return
        is_last = any(decision.changes for decision in decisions)
        outcome = self._aftermath.take(reading, setting, is_last=is_last)
        if outcome is None:
            return
        self._history.complete(outcome.step, outcome.told)
        logger.info("tuner: what came of %s", _describe(outcome.told))
        if outcome.is_kept is not None:
            self._observer.observe(
                GuardStepTold(parameter=outcome.step.parameter, is_kept=outcome.is_kept)
            )

    async def _apply(self, decision: Decision) -> bool:
        """Put a decision in force and tell of it; return whether it is."""
        words = _describe(decision)
        if decision.changes:
            try:
                await self._live.change(
                    decision.changes, source=COMPONENT, reason=decision.rationale
                )
            except MuAIError as error:
                if isinstance(error, ModelUnavailableError):
                    # A worker that restarts, or does not answer: the option itself is not refused.
                    self._policy.give_up()
                else:
                    self._policy.refuse(decision)
                self._history.add(decision, self._now(), refusal=error.message)
                logger.warning("tuner: %s was refused: %s", words, error.message)
                return False
        self._history.add(decision, self._now())
        logger.info("tuner: %s", words)
        self._observer.observe(
            TuningDecided(
                parameter=decision.parameter,
                direction=decision.direction,
                is_rollback=decision.kind is DecisionKind.ROLL_BACK,
            )
        )
        return True

    def _tell_values(self) -> None:
        setting = _read_setting(self._live.read())
        self._observer.observe(
            TunedValuesRead(
                batch_size=setting[BATCH_SIZE],
                batch_timeout_ms=setting[BATCH_TIMEOUT],
                cache_size_mb=setting[CACHE_SIZE],
            )
        )


def _count_windows(values: Mapping[str, object]) -> int:
    """Return how many windows the observed time is long."""
    num_windows = _read_int(values, _OBSERVATION) // _read_int(values, _INTERVAL)
    return max(MAX_WINDOWS, num_windows)


def _find_switched_off(values: Mapping[str, object]) -> frozenset[str]:
    return frozenset(
        key for switch, keys in _KEYS_BY_SWITCH.items() if not values[switch] for key in keys
    )


def _read_setting(values: Mapping[str, object]) -> dict[str, int]:
    return {key: _read_int(values, key) for key in KNOBS}


def _read_int(values: Mapping[str, object], key: str) -> int:
    value = values[key]
    if not isinstance(value, int):
        raise TypeError(f"{key} is {value!r}, which is no whole number")
    return value


def _describe(decision: Decision) -> str:
    changes = ", ".join(
        describe_change(key, decision.old[key], value) for key, value in decision.changes.items()
    )
    before, after = decision.before, decision.after
    figures = "".join(
        f" [{when}: {one.tokens_per_s:.1f} tokens/s, p95 {one.latency_p95_s or 0.0:.2f} s]"
        for when, one in (("before", before), ("after", after))
        if one is not None
    )
    return f"{decision.kind.value} {changes or decision.parameter}: {decision.rationale}{figures}"
