"""Brings notices to the destinations: one owner task each, so that none waits for another.

                   +-> outbox -> courier -> log
put (never waits) -+-> outbox -> courier -> webhook       try, back off, try again, give up
                   +-> outbox -> courier -> alertmanager
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.events import ErrorOccurred
from mm_orch.core.observations import DestinationReport
from mm_orch.monitoring.alerts.destinations import RESEND_S
from mm_orch.monitoring.alerts.http_post import DeliveryError
from mm_orch.monitoring.alerts.outbox import ChangeOutbox, StateOutbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.monitoring.alerts.alert import Notice
    from mm_orch.monitoring.alerts.destinations import Destination
    from mm_orch.monitoring.alerts.outbox import Outbox, Parcel

logger = logging.getLogger(__name__)

COMPONENT = "alerts"
_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLimits:
    """Bounds of what is done for one destination.

    Attributes:
        max_notices: that wait; over it the oldest is dropped.
        max_tries: of one parcel.
        max_age_s: an older one is not sent any more.
        last_s: for what is left when the server ends.
    """

    max_notices: int = 64
    max_tries: int = 8
    max_age_s: float = 600.0
    last_s: float = 2.0


class Courier:
    """Owner of one destination."""

    def __init__(
        self,
        destination: Destination,
        *,
        observer: Observer,
        clock: Clock,
        pause: Callable[[float], Awaitable[object]],
        limits: DeliveryLimits,
    ) -> None:
        self._destination = destination
        self._outbox: Outbox = (
            StateOutbox(limits.max_notices, RESEND_S)
            if destination.wants_state
            else ChangeOutbox(limits.max_notices)
        )
        self._observer = observer
        self._clock = clock
        self._pause = pause
        self._limits = limits
        self._has_news = asyncio.Event()
        self._num_sent = self._num_failed = self._num_dropped = 0
        self._num_tries_in_vain = 0
        self._problem = ""

    def put(self, told: Sequence[Notice], firing: Sequence[Notice]) -> None:
        """Take what is to be told, without waiting."""
        num_dropped = self._outbox.put(told, firing, self._clock())
        self._num_dropped += num_dropped
        for _ in range(num_dropped):
            self._count_error(asyncio.QueueFull.__name__)
        self._has_news.set()

    def report(self) -> DestinationReport:
        """Return how it does."""
        return DestinationReport(
            name=self._destination.name,
            num_sent=self._num_sent,
            num_failed=self._num_failed,
            num_dropped=self._num_dropped,
            num_waiting=len(self._outbox),
            problem=self._problem,
        )

    async def run(self) -> None:
        """Deliver until cancelled; then try once more, for a bounded time, what is left."""
        try:
            while True:
                self._has_news.clear()
                await self._deliver()
                await self._has_news.wait()
        finally:
            # Not asyncio.timeout: in a task that is being cancelled it is no bound before 3.11.4.
            last = asyncio.create_task(self._deliver_last(), name="deliver the last alerts")
            await asyncio.wait({last}, timeout=self._limits.last_s)
            last.cancel()
            await asyncio.gather(last, return_exceptions=True)
            self._abandon()
            await self._destination.aclose()

    async def _deliver(self) -> None:
        """Send what there is, one parcel after another, each until it is taken or given up."""
        num_tries = 0
        while (parcel := self._outbox.peek()) is not None:
            if self._clock() - parcel.put_at_s > self._limits.max_age_s:
                self._give_up(parcel)
                num_tries = 0
                continue
            num_tries += 1
            error = await self._try(parcel)
            if error is None:
                num_tries = 0
            elif not error.may_retry or num_tries >= self._limits.max_tries:
                self._give_up(parcel)
                num_tries = 0
            if error is not None:
                await self._pause(_delay_s(self._num_tries_in_vain))

    async def _deliver_last(self) -> None:
        while (parcel := self._outbox.peek()) is not None:
            if await self._try(parcel) is not None:
                self._give_up(parcel)

    def _abandon(self) -> None:
        if num_left := len(self._outbox):
            self._num_failed += num_left
            name = self._destination.name
            logger.warning("alerts: %s was not told of %d before the end", name, num_left)

    async def _try(self, parcel: Parcel) -> DeliveryError | None:
        try:
            await self._destination.send(parcel.notices)
        except DeliveryError as error:
            self._note_failure(error)
            return error
        except Exception as error:  # boundary: what a destination has wrong stays its own
            logger.exception("alerts: %s failed", self._destination.name)
            name = type(error).__name__
            failure = DeliveryError(name, error_type=name, may_retry=False)
            self._note_failure(failure)
            return failure
        if self._num_tries_in_vain:
            logger.info("alerts: %s takes them again", self._destination.name)
        self._num_tries_in_vain, self._problem = 0, ""
        self._num_sent += 1
        self._outbox.settle(parcel, self._clock())
        return None

    def _note_failure(self, error: DeliveryError) -> None:
        self._num_tries_in_vain += 1
        self._problem = str(error)
        self._count_error(error.error_type)
        # Once an outage: the counters tell of the rest.
        level = logging.WARNING if self._num_tries_in_vain == 1 else logging.DEBUG
        logger.log(level, "alerts: %s did not take one: %s", self._destination.name, error)

    def _give_up(self, parcel: Parcel) -> None:
        self._outbox.settle(parcel, self._clock())
        self._num_failed += len(parcel.notices)
        logger.warning(
            "alerts: %s was not told of %d: %s",
            self._destination.name,
            len(parcel.notices),
            self._problem,
        )

    def _count_error(self, error_type: str) -> None:
        self._observer.observe(ErrorOccurred(component=COMPONENT, error_type=error_type))


class Delivery:
    """Every destination with its courier.

    Args:
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        *,
        observer: Observer,
        clock: Clock,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        limits: DeliveryLimits | None = None,
    ) -> None:
        self._couriers = [
            Courier(
                destination,
                observer=observer,
                clock=clock,
                pause=pause,
                limits=limits or DeliveryLimits(),
            )
            for destination in destinations
        ]

    def put(self, told: Sequence[Notice], firing: Sequence[Notice]) -> None:
        """Hand one evaluation's news, and all that fires, to every destination; never waits."""
        for courier in self._couriers:
            courier.put(told, firing)

    def reports(self) -> tuple[DestinationReport, ...]:
        """Return how each destination does."""
        return tuple(courier.report() for courier in self._couriers)

    async def run(self) -> None:
        """Deliver until cancelled; then take a bounded time for what is left."""
        async with asyncio.TaskGroup() as tasks:
            for courier in self._couriers:
                tasks.create_task(courier.run())


def _delay_s(num_tries_in_vain: int) -> float:
    return float(min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(num_tries_in_vain - 1, 16)))
