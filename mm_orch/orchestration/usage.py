"""Counts what each caller has used since the start, by the name of its key."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mm_orch.core.events import RequestFinished, RequestStatus
from mm_orch.core.observations import CallerUsage, UsageReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.events import Event


@dataclass(slots=True)
class _Counts:
    num_requests: int = 0
    num_refused: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0


class UsageBook:
    """An observer; names come from the configuration, so their number is bounded.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.since_s = now()
        self._counts_by_caller: defaultdict[str, _Counts] = defaultdict(_Counts)

    def observe(self, event: Event) -> None:
        """Count a request that has ended."""
        if not isinstance(event, RequestFinished):
            return
        counts = self._counts_by_caller[event.caller]
        counts.num_requests += 1
        counts.num_refused += event.status is RequestStatus.REJECTED
        counts.num_prompt_tokens += event.num_prompt_tokens
        counts.num_cached_tokens += event.num_cached_tokens
        counts.num_generated_tokens += event.num_generated_tokens

    async def report(self) -> UsageReport:
        """All callers that have sent anything, in order of their names."""
        return make_report(self.since_s, self.count())

    def count(self) -> tuple[CallerUsage, ...]:
        """Return what each has used, in order of their names."""
        return tuple(
            CallerUsage(name=name, **asdict(counts))
            for name, counts in sorted(self._counts_by_caller.items())
        )


def make_report(since_s: float, used: tuple[CallerUsage, ...]) -> UsageReport:
    """Return a report of what was used since then, seconds since 1970."""
    since = datetime.fromtimestamp(since_s, UTC).isoformat(timespec="milliseconds")
    return UsageReport(since=since, callers=used)
