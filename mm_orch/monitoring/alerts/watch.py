"""Evaluates the figures on a timer and hands what they mean to those who want to know."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mm_orch.core.events import AlertChanged, ErrorOccurred
from mm_orch.monitoring.alerts.book import ChangeKind
from mm_orch.monitoring.alerts.delivery import COMPONENT
from mm_orch.monitoring.alerts.thresholds import find_breaches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.core.observations import DestinationReport
    from mm_orch.monitoring.alerts.alert import Notice
    from mm_orch.monitoring.alerts.baseline import Baselines
    from mm_orch.monitoring.alerts.book import AlertBook, Change
    from mm_orch.monitoring.alerts.delivery import Delivery
    from mm_orch.monitoring.alerts.figures import Figures
    from mm_orch.monitoring.alerts.thresholds import Thresholds

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReport:
    """What the API tells of alerts.

    Attributes:
        firing: what fires now.
        history: what has begun, grown worse and ended, the newest first; bounded.
        destinations: how each does.
    """

    firing: tuple[Notice, ...]
    history: tuple[Notice, ...]
    destinations: tuple[DestinationReport, ...]


class AlertWatch:
    """Owner of the alerts.

    Args:
        read_figures: returns the window's figures, at once.
        baselines: what is usual; None for fixed thresholds alone.
        interval_s: between two evaluations.
        observer: is told of each change.
        now: the wall clock, in UTC.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        read_figures: Callable[[], Figures],
        *,
        thresholds: Thresholds,
        baselines: Baselines | None,
        book: AlertBook,
        delivery: Delivery,
        interval_s: float,
        observer: Observer,
        clock: Clock,
        now: Callable[[], datetime] = utc_now,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._read_figures = read_figures
        self._thresholds = thresholds
        self._baselines = baselines
        self._book = book
        self._delivery = delivery
        self._interval_s = interval_s
        self._observer = observer
        self._clock = clock
        self._now = now
        self._pause = pause

    async def run(self) -> None:
        """Evaluate and deliver until cancelled; then take a bounded time for what is left."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._delivery.run())
            while True:
                self.evaluate()
                await self._pause(self._interval_s)

    def evaluate(self) -> None:
        """Look at the figures once; never raises: the next look may go well."""
        try:
            self._evaluate()
        except Exception as error:  # boundary: a fault here is no reason to stop watching
            name = type(error).__name__
            self._observer.observe(ErrorOccurred(component=COMPONENT, error_type=name))
            logger.exception("alerts: an evaluation failed")

    def report(self) -> AlertReport:
        """Return what fires, what did, and how the destinations do."""
        return AlertReport(
            firing=self._book.firing(self._now()),
            history=self._book.history(),
            destinations=self._delivery.reports(),
        )

    def _evaluate(self) -> None:
        figures = self._read_figures()
        now_s, at = self._clock(), self._now()
        breaches = find_breaches(figures, self._thresholds, self._book.firing_identities())
        if self._baselines is not None:
            breaches += self._baselines.find_departures(figures, now_s)
        changes = self._book.take(breaches, now_s, at)
        told = [change.notice for change in changes if not change.is_held]
        self._delivery.put(told, self._book.firing(at))
        for change in changes:
            self._observer.observe(_event(change))


def _event(change: Change) -> AlertChanged:
    notice = change.notice
    return AlertChanged(
        alert_type=notice.identity.alert_type,
        severity=notice.severity.value,
        is_firing=change.kind is not ChangeKind.RESOLVED,
        is_new=change.kind in {ChangeKind.BEGUN, ChangeKind.WORSENED},
        model=notice.identity.model,
        engine=notice.identity.engine,
        message=notice.message,
    )
