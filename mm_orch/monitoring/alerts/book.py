"""Which alerts fire now, and what is to be told of them: a state machine without I/O.

                breach                    worse than noted: told at once
    nothing ------------> firing ---------------------------------------+
       ^                    |  ^                                        |
       |                    |  +----------------------------------------+
       +--------------------+     as grave or milder: told again, at most once per rate limit
        no breach in the last num_clear evaluations: told, if the firing was

One that begins again within the rate limit, no graver than was told last, is held back.

An alert is as grave as the worst of its last ``num_clear`` evaluations. One rule so keeps both an
alert whose figure wavers about the limit, and a severity that does, from beginning again and again.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mm_orch.monitoring.alerts.alert import Notice, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mm_orch.monitoring.alerts.alert import Breach, Identity, Severity

NUM_CLEAR = 6
"""A minute of evaluations every 10 s: longer than a figure's noise about its limit, and short
beside the window of 300 s, by which the end of a trouble is seen late in any case."""
_MAX_IDENTITIES = 256
_MAX_HISTORY = 200


class ChangeKind(enum.Enum):
    """What has happened to an alert."""

    BEGUN = "begun"
    WORSENED = "worsened"
    REPEATED = "repeated"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that has happened to an alert; ``is_held`` when the rate limit keeps it back."""

    kind: ChangeKind
    notice: Notice
    is_held: bool = False


@dataclass(slots=True)
class _Entry:
    """One identity.

    Attributes:
        recent: the severity that each of the last evaluations found, None for no breach.
        starts_at: when it began to fire; None while it does not.
        told_at_s: when it was last told of as firing, on the monotonic clock.
        told_severity: how grave it was then; a firing that begins no graver is held back.
        noted_severity: how grave this firing was when last noted; beyond it, it has grown worse.
        is_told: whether this firing of it was told of.
    """

    recent: deque[Severity | None]
    breach: Breach
    starts_at: datetime | None = None
    told_at_s: float | None = None
    told_severity: Severity | None = None
    noted_severity: Severity | None = None
    is_told: bool = False
    severity: Severity = field(init=False)

    def __post_init__(self) -> None:
        self.severity = self.breach.severity


class AlertBook:
    """Every alert that fires, and the last ones that did.

    Args:
        rate_limit_s: between two notices of one identity that tells nothing worse.
        num_clear: evaluations without a breach that end an alert.
        max_identities: kept at once; more are not taken.
    """

    def __init__(
        self,
        *,
        rate_limit_s: float,
        num_clear: int = NUM_CLEAR,
        max_identities: int = _MAX_IDENTITIES,
        max_history: int = _MAX_HISTORY,
    ) -> None:
        self._rate_limit_s = rate_limit_s
        self._num_clear = num_clear
        self._max_identities = max_identities
        self._entries: dict[Identity, _Entry] = {}
        self._history: deque[Notice] = deque(maxlen=max_history)

    def take(self, breaches: Sequence[Breach], now_s: float, at: datetime) -> list[Change]:
        """Enter one evaluation's breaches; return what has happened.

        Args:
            breaches: at most one an identity.
            now_s: a reading of the monotonic clock.
            at: the same moment in UTC.
        """
        breach_by_identity = {breach.identity: breach for breach in breaches}
        for identity, breach in breach_by_identity.items():
            if identity not in self._entries:
                self._enter(identity, breach)
        changes: list[Change] = []
        for identity, entry in list(self._entries.items()):
            change = self._advance(entry, breach_by_identity.get(identity), now_s, at)
            if change is not None:
                changes.append(change)
                self._remember(change)
        self._forget(now_s)
        return changes

    def firing_identities(self) -> set[Identity]:
        """Return which alerts fire now."""
        return {one for one, entry in self._entries.items() if entry.starts_at is not None}

    def firing(self, at: datetime) -> tuple[Notice, ...]:
        """Return the alerts that fire now, each with its present severity, held ones too."""
        return tuple(
            _notice(entry, at) for entry in self._entries.values() if entry.starts_at is not None
        )

    def history(self) -> tuple[Notice, ...]:
        """Return what has begun, grown worse and ended, the newest first."""
        return tuple(self._history)

    def _enter(self, identity: Identity, breach: Breach) -> None:
        if len(self._entries) >= self._max_identities:
            return
        recent: deque[Severity | None] = deque(maxlen=self._num_clear)
        self._entries[identity] = _Entry(recent, breach)

    def _advance(
        self, entry: _Entry, breach: Breach | None, now_s: float, at: datetime
    ) -> Change | None:
        entry.recent.append(None if breach is None else breach.severity)
        grades = [grade for grade in entry.recent if grade is not None]
        if breach is not None:
            entry.breach = breach
        if grades:
            entry.severity = max(grades)
            return self._tell_of_firing(entry, now_s, at)
        return _resolve(entry, at) if entry.starts_at is not None else None

    def _tell_of_firing(self, entry: _Entry, now_s: float, at: datetime) -> Change | None:
        is_begin = entry.starts_at is None
        if is_begin:
            entry.starts_at = at
        # What an earlier firing was told at may hold a beginning back, never an escalation.
        known = entry.told_severity if is_begin else entry.noted_severity
        is_worse = known is None or entry.severity > known
        may_tell = is_worse or self._is_limit_over(entry, now_s)
        if may_tell:
            entry.is_told, entry.told_at_s, entry.told_severity = True, now_s, entry.severity
        elif not is_begin:
            return None
        entry.noted_severity = entry.severity
        if is_begin:
            kind = ChangeKind.BEGUN
        else:
            kind = ChangeKind.WORSENED if is_worse else ChangeKind.REPEATED
        return Change(kind, _notice(entry, at), is_held=not may_tell)

    def _is_limit_over(self, entry: _Entry, now_s: float) -> bool:
        return entry.told_at_s is None or now_s - entry.told_at_s >= self._rate_limit_s

    def _remember(self, change: Change) -> None:
        if change.kind is not ChangeKind.REPEATED:
            self._history.appendleft(change.notice)

    def _forget(self, now_s: float) -> None:
        """Drop ended alerts that the rate limit need not know of any more."""
        for identity, entry in list(self._entries.items()):
            if entry.starts_at is None and self._is_limit_over(entry, now_s):
                del self._entries[identity]


def _resolve(entry: _Entry, at: datetime) -> Change:
    notice = replace(_notice(entry, at), status=Status.RESOLVED, ends_at=at)
    # Nobody needs the end of what nobody was told had begun.
    change = Change(ChangeKind.RESOLVED, notice, is_held=not entry.is_told)
    entry.starts_at, entry.is_told = None, False
    return change


def _notice(entry: _Entry, at: datetime) -> Notice:
    breach = entry.breach
    return Notice(
        identity=breach.identity,
        severity=entry.severity,
        status=Status.FIRING,
        message=breach.message,
        value=breach.value,
        limit=breach.limit,
        at=at,
        starts_at=entry.starts_at or at,
    )
