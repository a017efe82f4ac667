"""What monitoring has seen, in the shapes that the HTTP face answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from mm_orch.core.events import Attempt

if TYPE_CHECKING:
    from mm_orch.core.figures import Figures


class RequestReport(msgspec.Struct, frozen=True, kw_only=True):
    """One request that has ended, with its timeline; nothing of its prompt or answer.

    Attributes:
        trace_id: 32 hexadecimal digits, where the request was traced.
        at: its begin, as ISO 8601 in UTC.
        routed_s: seconds from its begin until its model was chosen and its prompt ready.
        gate_wait_s: seconds after that until it was its turn.
        num_waiting_before: requests of the model that waited when it came.
        num_running_before: those that ran.
        attempts: what each worker did of it; their times are seconds from its begin.
    """

    request_id: str
    trace_id: str | None
    at: str
    model: str
    engine: str
    operation: str
    status: str
    error_type: str | None
    error_message: str | None
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    finish_reasons: tuple[str, ...]
    queue_wait_s: float | None
    ttft_s: float | None
    total_s: float
    routed_s: float | None
    gate_wait_s: float
    num_waiting_before: int
    num_running_before: int
    attempts: tuple[Attempt, ...]


class CallerUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller's requests that have ended took, by the name of its key.

    Attributes:
        num_requests: all of them.
        num_refused: those that were refused, whoever was to blame.
        num_prompt_tokens: of requests that got as far as being read.
        num_cached_tokens: those among them that needed no computing.
    """

    name: str
    num_requests: int
    num_refused: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """What each caller has used since the server's start; ``since`` is ISO 8601 in UTC."""

    since: str
    callers: tuple[CallerUsage, ...]


class FiringAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that fires now.

    Attributes:
        since: ISO 8601 in UTC.
        value: what was measured, in the unit of the limit.
        limit: what it should not pass.
    """

    alert_type: str
    severity: str
    model: str
    engine: str
    message: str
    since: str
    value: float
    limit: float


class PastAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an alert: it began, grew worse, or was resolved; ``at`` is ISO 8601 in UTC."""

    alert_type: str
    severity: str
    model: str
    engine: str
    message: str
    status: str
    at: str


class RequestsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The last requests that ended, the newest first."""

    requests: tuple[RequestReport, ...]


class DestinationReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one place does that is told of alerts.

    Attributes:
        num_sent: calls that it took.
        num_failed: notices that were given up after trying.
        num_dropped: notices that there was no room for.
        num_waiting: notices that are still to be sent.
        problem: why the last try failed; empty when it did not.
    """

    name: str
    num_sent: int
    num_failed: int
    num_dropped: int
    num_waiting: int
    problem: str


class AlertsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What fires, and what did, the newest first; and how each place does that is told of it."""

    firing: tuple[FiringAlert, ...]
    history: tuple[PastAlert, ...]
    destinations: tuple[DestinationReport, ...]


class Observations(Protocol):
    """Answers from what monitoring keeps in memory, at once and without waiting."""

    def metrics(self, after: float | None = None) -> Figures:
        """Windows, trends and history of every model and of the machine.

        Args:
            after: only points of the history after this moment, in seconds since 1970.
        """

    def alerts(self) -> AlertsReport:
        """What fires, what did, and how the places do that are told of it.

        Raises:
            NotServedError: alerts are switched off.
        """

    def requests(self, limit: int) -> RequestsReport:
        """At most so many of the last requests that ended."""
