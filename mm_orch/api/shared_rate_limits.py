"""Rate limits that several servers keep together: one bucket a caller for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mm_orch.api.rate_limits import make_allowance, per_second
from mm_orch.core.errors import OverloadError, StorageError

if TYPE_CHECKING:
    from mm_orch.api.rate_limits import Allowance, RateLimits


class Taken(Protocol):
    """What is in a bucket after a request was counted, and whether it was let in."""

    @property
    def level(self) -> float:
        """Requests that may be sent at once."""

    @property
    def is_allowed(self) -> bool:
        """The request may go on."""


class Buckets(Protocol):
    """Buckets that others take from too."""

    async def take(self, caller: str, *, limit: int, per_second: float) -> Taken:
        """Count a request; raises StorageError, OverloadError."""


class SharedRateLimits:
    """Takes from the shared buckets; while these cannot be asked, from this server's own.

    So a database that is away stops nobody; each server then allows the limit by itself.

    Args:
        own: knows the limits.
        buckets: shared.
    """

    def __init__(self, own: RateLimits, buckets: Buckets) -> None:
        self._own = own
        self._buckets = buckets

    async def take(self, caller: str) -> Allowance | None:
        """Count a request of this caller; None where it has no limit."""
        limit = self._own.find_limit(caller)
        if limit is None:
            return None
        try:
            taken = await self._buckets.take(caller, limit=limit, per_second=per_second(limit))
        except (StorageError, OverloadError):
            # The database has noted it, for the log and for health.
            return self._own.take(caller)
        return make_allowance(limit, taken.level, is_allowed=taken.is_allowed)
