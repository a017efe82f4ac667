"""Breaches, notices and moments that the tests of alerts are made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mm_orch.monitoring.alerts.alert import (
    HIGH_LATENCY,
    Breach,
    Identity,
    Notice,
    Severity,
    Status,
)

MODEL = "small"
ENGINE = "pytorch"
IDENTITY = Identity(HIGH_LATENCY, MODEL, ENGINE)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The wall clock's reading so long after the beginning."""
    return AT + timedelta(seconds=seconds)


def breach(severity: Severity = Severity.WARNING, identity: Identity = IDENTITY) -> Breach:
    return Breach(identity=identity, severity=severity, message="it is slow", value=2.0, limit=1.0)


def firing(
    severity: Severity = Severity.WARNING,
    identity: Identity = IDENTITY,
    message: str = "it is slow",
    seconds: float = 0,
) -> Notice:
    return Notice(
        identity=identity,
        severity=severity,
        status=Status.FIRING,
        message=message,
        value=2.0,
        limit=1.0,
        at=at(seconds),
        starts_at=AT,
    )


def ended(notice: Notice, seconds: float = 60) -> Notice:
    return replace(notice, status=Status.RESOLVED, at=at(seconds), ends_at=at(seconds))
