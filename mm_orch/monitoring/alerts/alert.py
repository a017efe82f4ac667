"""What an alert is: its identity, how grave it is, and what is told of it."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

HIGH_LATENCY = "high_latency"
HIGH_ERROR_RATE = "high_error_rate"
HIGH_MEMORY = "high_memory"
LOW_THROUGHPUT = "low_throughput"
GPU_FAILED = "gpu_failed"
ANOMALY = "anomaly"
ALERT_TYPES = (HIGH_LATENCY, HIGH_ERROR_RATE, HIGH_MEMORY, LOW_THROUGHPUT, GPU_FAILED, ANOMALY)


@functools.total_ordering
class Severity(enum.Enum):
    """How grave; the value is how labels, logs and bodies spell it, the order is from mild on."""

    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    def __lt__(self, other: Severity) -> bool:
        grades = list(Severity)
        return grades.index(self) < grades.index(other)


class Status(enum.Enum):
    """Whether what is told of goes on or is over."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two alerts the same one; model and engine are empty where none is meant."""

    alert_type: str
    model: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A figure beyond its limit, as one evaluation has found it.

    Attributes:
        message: for people, with the value, the limit and their units.
        value: the figure, in the limit's unit.
        limit: the threshold, or what the baseline allows.
    """

    identity: Identity
    severity: Severity
    message: str
    value: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is told of an alert at one moment; times are in UTC.

    Attributes:
        at: when it was made.
        starts_at: when the alert began to fire.
        ends_at: when it was over, or None.
    """

    identity: Identity
    severity: Severity
    status: Status
    message: str
    value: float
    limit: float
    at: datetime
    starts_at: datetime
    ends_at: datetime | None = None

    @property
    def metadata(self) -> dict[str, object]:
        """What a program may want beside the message."""
        return {
            "model": self.identity.model,
            "engine": self.identity.engine,
            "value": self.value,
            "limit": self.limit,
            "starts_at": self.starts_at.isoformat(),
            "ends_at": None if self.ends_at is None else self.ends_at.isoformat(),
        }
