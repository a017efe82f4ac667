"""Sends a test alert to every destination and says which took it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.monitoring.alerts.alert import Identity, Notice, Severity, Status
from mm_orch.monitoring.alerts.http_post import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mm_orch.monitoring.alerts.destinations import Destination

TEST = "test"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a destination took the test alert; ``problem`` is empty when it did."""

    name: str
    problem: str = ""


async def send_test_alert(
    destinations: Sequence[Destination], *, at: datetime
) -> tuple[Outcome, ...]:
    """Send a test alert to all at once, close them, and return what came of it.

    A destination that is told of changes gets its beginning and its end. An Alertmanager gets its
    beginning alone, and lets it end when it is not told again: it waits before it notifies, and
    what has ended by then it notifies nobody of.

    Args:
        destinations: those to try.
        at: now, in UTC.
    """
    return tuple(await asyncio.gather(*(_send(one, at) for one in destinations)))


async def _send(destination: Destination, at: datetime) -> Outcome:
    firing = Notice(
        identity=Identity(TEST),
        severity=Severity.WARNING,
        status=Status.FIRING,
        message="This is a test: nothing is wrong.",
        value=0.0,
        limit=0.0,
        at=at,
        starts_at=at,
    )
    ended = replace(firing, status=Status.RESOLVED, ends_at=at)
    notices = (firing,) if destination.wants_state else (firing, ended)
    try:
        await destination.send(notices)
    except DeliveryError as error:
        return Outcome(destination.name, str(error))
    finally:
        await destination.aclose()
    return Outcome(destination.name)
