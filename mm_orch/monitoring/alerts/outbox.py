"""What is still to be sent to a destination, bounded: each change once, or the present state."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mm_orch.monitoring.alerts.alert import Notice, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.monitoring.alerts.alert import Identity, Severity


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one call hands over, and when it was put down, on the monotonic clock."""

    notices: tuple[Notice, ...]
    put_at_s: float


class Outbox(Protocol):
    """Takes what is to be told and gives it out again until it is settled."""

    def put(self, told: Sequence[Notice], firing: Sequence[Notice], now_s: float) -> int:
        """Take one evaluation's news and all that fires; return how many had to be dropped."""

    def peek(self) -> Parcel | None:
        """Return what is to be sent next, or None."""

    def settle(self, parcel: Parcel, now_s: float) -> None:
        """Forget what was sent, or was given up."""

    def __len__(self) -> int:
        """How many notices wait."""


class ChangeOutbox:
    """Each change once, in order; a full one drops the oldest, because news is worth more."""

    def __init__(self, max_notices: int) -> None:
        self._max_notices = max_notices
        self._parcels: deque[Parcel] = deque()

    def put(self, told: Sequence[Notice], firing: Sequence[Notice], now_s: float) -> int:
        """Take the news."""
        del firing  # only changes are told
        self._parcels.extend(Parcel((notice,), now_s) for notice in told)
        num_dropped = max(0, len(self._parcels) - self._max_notices)
        for _ in range(num_dropped):
            self._parcels.popleft()
        return num_dropped

    def peek(self) -> Parcel | None:
        """Return the oldest."""
        return self._parcels[0] if self._parcels else None

    def settle(self, parcel: Parcel, now_s: float) -> None:
        """Forget it, unless it was dropped meanwhile."""
        del now_s
        if self._parcels and self._parcels[0] is parcel:
            self._parcels.popleft()

    def __len__(self) -> int:
        return len(self._parcels)


class StateOutbox:
    """Everything that fires and what has ended since it was last sent, always as it is now.

    A destination that was away so gets one parcel with the present, not a row of old ones. The rate
    limit is not for it: such a destination has its own, and being told again is no news to it.

    Args:
        max_notices: ended ones over this are dropped, the oldest first.
        resend_s: what fires is sent again after so long.
    """

    def __init__(self, max_notices: int, resend_s: float) -> None:
        self._max_notices = max_notices
        self._resend_s = resend_s
        self._notice_by_key: dict[tuple[Identity, Severity], Notice] = {}
        self._due_since_s: float | None = None
        self._sent_at_s = 0.0

    def put(self, told: Sequence[Notice], firing: Sequence[Notice], now_s: float) -> int:
        """Take what fires now; what did and does no more, or as another severity, has ended."""
        at_by_identity = {notice.identity: notice.at for notice in (*told, *firing)}
        current = {(notice.identity, notice.severity): notice for notice in firing}
        is_changed = any(
            key not in self._notice_by_key or not _is_firing(self._notice_by_key[key])
            for key in current
        )
        for key, notice in list(self._notice_by_key.items()):
            if key not in current and _is_firing(notice):
                at = at_by_identity.get(notice.identity, notice.at)
                ended = replace(notice, status=Status.RESOLVED, at=at, ends_at=at)
                # Moved to the end: the ended are in the order in which they ended.
                del self._notice_by_key[key]
                self._notice_by_key[key] = ended
                is_changed = True
        self._notice_by_key.update(current)
        is_resend = bool(current) and now_s - self._sent_at_s >= self._resend_s
        if (is_changed or is_resend) and self._due_since_s is None:
            self._due_since_s = now_s
        return self._drop()

    def peek(self) -> Parcel | None:
        """Return everything, once something has changed or it is time to say it again."""
        if self._due_since_s is None:
            return None
        return Parcel(tuple(self._notice_by_key.values()), self._due_since_s)

    def settle(self, parcel: Parcel, now_s: float) -> None:
        """Forget the ended ones that were in it; what has changed meanwhile is still to be sent."""
        sent = {(notice.identity, notice.severity): notice for notice in parcel.notices}
        for key, notice in sent.items():
            if self._notice_by_key.get(key) is notice and not _is_firing(notice):
                del self._notice_by_key[key]
        is_news_left = any(
            key not in sent or sent[key].status is not notice.status
            for key, notice in self._notice_by_key.items()
        )
        self._due_since_s = now_s if is_news_left else None
        self._sent_at_s = now_s

    def __len__(self) -> int:
        return len(self._notice_by_key) if self._due_since_s is not None else 0

    def _drop(self) -> int:
        ended = [key for key, notice in self._notice_by_key.items() if not _is_firing(notice)]
        num_dropped = max(0, len(ended) - self._max_notices)
        for key in ended[:num_dropped]:
            del self._notice_by_key[key]
        return num_dropped


def _is_firing(notice: Notice) -> bool:
    return notice.status is Status.FIRING
