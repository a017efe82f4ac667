"""Combines the autoscaler: reads windows, asks each model's policy, has replicas join or leave."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from mm_orch.autoscaling.meter import LoadMeter
from mm_orch.autoscaling.policy import ScalingPolicy
from mm_orch.autoscaling.readings import Decision, Direction
from mm_orch.core.events import ErrorOccurred
from mm_orch.core.scaling_events import ReplicasScaled, ScaledLoadRead
from mm_orch.core.scaling_report import ScalingReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mm_orch.autoscaling.meter import Standing
    from mm_orch.autoscaling.readings import Goals
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.optimization.replicas.layout import ReplicaRange

logger = logging.getLogger(__name__)

COMPONENT: Final = "autoscaler"
WINDOW_S = 2.0
"""From one reading to the next."""


class ScaledModels(Protocol):
    """The models whose replicas follow their load."""

    def ranges(self) -> Mapping[str, ReplicaRange]:
        """Between how many each may have, by the model's name."""

    def look(self, model: str) -> Standing | None:
        """Say how its replicas are now; None while it is not loaded."""

    async def find_obstacle(self, model: str) -> str:
        """Say why there is no memory for one more now; empty where there is."""

    def scale(self, model: str, count: int) -> None:
        """Have so many replicas from now on; those that leave are drained first."""


@dataclass(slots=True)
class _Scaled:
    """What is kept of one model."""

    policy: ScalingPolicy = field(default_factory=ScalingPolicy)
    last: Decision | None = None
    at: str = ""
    # When it was last held.
    held_at_s: float | None = None


class Autoscaler:
    """The loop at the side of the path; implements core.scaling_report.ScalingReports.

    Args:
        models: have replicas join and leave.
        read_goals: gives what is to be kept now.
        observer: is told of each decision; :attr:`observer_of_path` must be among those who hear
            the path's events.
        clock: the monotonic clock.
        now: the wall clock, in UTC.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        models: ScaledModels,
        *,
        read_goals: Callable[[], Goals],
        observer: Observer,
        clock: Clock,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._models = models
        self._read_goals = read_goals
        self._observer = observer
        self._clock = clock
        self._now = now
        self._pause = pause
        self._meter = LoadMeter(clock)
        self._scaled: dict[str, _Scaled] = {}

    @property
    def observer_of_path(self) -> Observer:
        """Whom the path tells of its events."""
        return self._meter

    async def run(self) -> None:
        """Decide once a window until cancelled; a fault is logged, and the next one decides."""
        while True:
            await self._pause(WINDOW_S)
            try:
                await self.decide()
            except Exception as error:  # boundary: scaling never fails the server
                logger.exception("autoscaler: a decision failed")
                self._observer.observe(
                    ErrorOccurred(component=COMPONENT, error_type=type(error).__name__)
                )

    async def decide(self) -> None:
        """Read the windows that end now, and have replicas join and leave as follows from them."""
        ranges, goals = self._models.ranges(), self._read_goals()
        for model in self._scaled.keys() - ranges.keys():
            del self._scaled[model]
        for model, bounds in ranges.items():
            await self._decide_for(model, bounds, goals)

    def report(self, model: str) -> ScalingReport | None:
        """See ScalingReports."""
        bounds = self._models.ranges().get(model)
        if bounds is None:
            return None
        scaled = self._scaled.get(model)
        if scaled is None or scaled.last is None:
            return ScalingReport(least=bounds.least, most=bounds.most)
        return ScalingReport(
            least=bounds.least,
            most=bounds.most,
            direction=scaled.last.direction.value,
            count=scaled.last.count,
            rationale=scaled.last.rationale,
            at=scaled.at,
        )

    async def _decide_for(self, model: str, bounds: ReplicaRange, goals: Goals) -> None:
        standing = self._models.look(model)
        if standing is None:
            # What was learnt of it goes: loaded again, it begins with the fewest.
            self._scaled.pop(model, None)
            return
        scaled = self._scaled.setdefault(model, _Scaled())
        reading = self._meter.read(model, standing)
        decision = scaled.policy.take(reading, bounds, goals, self._clock())
        if decision is not None:
            if decision.direction is Direction.UP:
                decision = await self._check_room(model, decision, reading.num_wanted)
            self._apply(model, scaled, decision, goals)
        num_wanted = reading.num_wanted if decision is None else decision.count
        self._observer.observe(
            ScaledLoadRead(model=model, num_wanted=num_wanted, wait_s=reading.wait_s)
        )

    async def _check_room(self, model: str, decision: Decision, num_wanted: int) -> Decision:
        """Return the decision, or that it is held because no more fit into the memory."""
        obstacle = await self._models.find_obstacle(model)
        if not obstacle:
            return decision
        why = f"{decision.count} are needed and {obstacle}: {decision.rationale}"
        return Decision(direction=Direction.HELD, count=num_wanted, rationale=why)

    def _apply(self, model: str, scaled: _Scaled, decision: Decision, goals: Goals) -> None:
        held_at_s, now_s = scaled.held_at_s, self._clock()
        is_held = decision.direction is Direction.HELD
        scaled.last, scaled.held_at_s = decision, now_s if is_held else None
        if is_held and held_at_s is not None and now_s - held_at_s < goals.quiet_s:
            # The figures are news, that it is held is not.
            return
        scaled.at = self._now().isoformat(timespec="seconds")
        if decision.direction is not Direction.HELD:
            self._models.scale(model, decision.count)
        logger.info(
            "autoscaler: %s is to have %d replicas (%s): %s",
            model,
            decision.count,
            decision.direction.value,
            decision.rationale,
        )
        self._observer.observe(
            ReplicasScaled(model=model, direction=decision.direction.value, count=decision.count)
        )
