"""Where alerts go: the log, a webhook, an Alertmanager; each takes notices or says why not."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from mm_orch.monitoring.alerts.alert import Severity, Status
from mm_orch.monitoring.alerts.http_post import JsonPost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.monitoring.alerts.alert import Notice

logger = logging.getLogger(__name__)

_LEVEL = {
    Severity.WARNING: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}


class Destination(Protocol):
    """Takes notices, one call at a time.

    Attributes:
        name: as the configuration spells it.
        wants_state: True where it has to be told again and again of everything that fires, and
            False where it is told once of each change.
    """

    name: str
    wants_state: bool

    async def send(self, notices: Sequence[Notice]) -> None:
        """Hand over the notices, all or none.

        Raises:
            DeliveryError: they were not taken.
        """

    async def aclose(self) -> None:
        """Close what is open."""


class LogDestination:
    """Writes a line a notice, as loud as the alert is grave."""

    name = "log"
    wants_state = False

    async def send(self, notices: Sequence[Notice]) -> None:
        """Write them."""
        for notice in notices:
            is_firing = notice.status is Status.FIRING
            level = _LEVEL[notice.severity] if is_firing else logging.INFO
            fields = {
                "alert_type": notice.identity.alert_type,
                "severity": notice.severity.value,
                "alert_status": notice.status.value,
                **notice.metadata,
            }
            words = f"{notice.status.value} {notice.identity.alert_type}: {notice.message}"
            logger.log(level, "alert %s", words, extra=fields)

    async def aclose(self) -> None:
        """Nothing is open."""


class WebhookDestination:
    """Posts a body a notice to an address of the operator's."""

    name = "webhook"
    wants_state = False

    def __init__(self, url: str) -> None:
        self._post = JsonPost(url)

    async def send(self, notices: Sequence[Notice]) -> None:
        """Post them in order."""
        for notice in notices:
            await self._post.post(
                {
                    "alert_type": notice.identity.alert_type,
                    "severity": notice.severity.value,
                    "message": notice.message,
                    "timestamp": notice.at.isoformat(),
                    "status": notice.status.value,
                    "metadata": notice.metadata,
                }
            )

    async def aclose(self) -> None:
        """Close the connection."""
        await self._post.aclose()


class AlertmanagerDestination:
    """Posts the state of every alert to an Alertmanager (API v2).

    An alert is its set of labels there, and receivers are chosen by label, so ``severity`` is one:
    what must wake somebody when critical has to be routed by it. An alert that grows worse so is
    another alert to Alertmanager, and the one with the old label is resolved in the same call. With
    ``group_by: [alertname, model, engine]`` people see one group whose severity has changed.

    Args:
        url: the Alertmanager, without the path of its API.
        service: value of the label ``service``.
        lifetime_s: an alert that is not sent again for so long resolves itself there.
    """

    name = "alertmanager"
    wants_state = True

    def __init__(self, url: str, *, service: str, lifetime_s: float = 240.0) -> None:
        # What Alertmanager finds wrong with a body is worth reading.
        self._post = JsonPost(f"{url.rstrip('/')}/api/v2/alerts", shows_answers=True)
        self._service = service
        self._lifetime = timedelta(seconds=lifetime_s)

    async def send(self, notices: Sequence[Notice]) -> None:
        """Post them in one body."""
        await self._post.post([self._body(notice) for notice in notices])

    async def aclose(self) -> None:
        """Close the connection."""
        await self._post.aclose()

    def _body(self, notice: Notice) -> dict[str, object]:
        identity = notice.identity
        labels = {
            "alertname": identity.alert_type,
            "severity": notice.severity.value,
            "service": self._service,
            "model": identity.model,
            "engine": identity.engine,
        }
        ends_at = notice.ends_at or notice.at + self._lifetime
        return {
            # To Alertmanager an empty label is none.
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {
                "summary": summary_of(notice),
                "description": notice.message,
            },
            "startsAt": notice.starts_at.isoformat(),
            "endsAt": ends_at.isoformat(),
        }


def summary_of(notice: Notice) -> str:
    """Return what it is about, in a few words."""
    identity = notice.identity
    subject = " on ".join(part for part in (identity.model, identity.engine) if part)
    kind = identity.alert_type.replace("_", " ")
    return f"{kind}: {subject}" if subject else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings:
    """Which destinations there are.

    Attributes:
        names: of log, webhook, alertmanager.
        webhook_url: needed for webhook; secret.
        alertmanager_url: needed for alertmanager.
        service: how this service is called there.
        interval_s: between two evaluations.
    """

    names: tuple[str, ...] = ("log",)
    webhook_url: str | None = None
    alertmanager_url: str | None = None
    service: str = "muai-orchestration"
    interval_s: float = 10.0


# Prometheus's own figures: sent again after a minute, resolved after four without.
RESEND_S = 60.0
_LIFETIME_IN_RESENDS = 4


def make_destinations(settings: DestinationSettings) -> list[Destination]:
    """Return the destinations in the order of their names.

    Raises:
        ValueError: one has no address, which the configuration does not let pass.
    """
    return [_make(name, settings) for name in dict.fromkeys(settings.names)]


def _make(name: str, settings: DestinationSettings) -> Destination:
    match name:
        case "log":
            return LogDestination()
        case "webhook" if settings.webhook_url:
            return WebhookDestination(settings.webhook_url)
        case "alertmanager" if settings.alertmanager_url:
            return AlertmanagerDestination(
                settings.alertmanager_url,
                service=settings.service,
                lifetime_s=_LIFETIME_IN_RESENDS * max(RESEND_S, settings.interval_s),
            )
        case _:
            message = f"alert destination {name} has no address"
            raise ValueError(message)
