"""The last outcomes of each workflow and model, in memory, and what they say."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mm_orch.consciousness.outcome_statistics import summarise
from mm_orch.storage.outcomes import MAX_KEYS, MAX_OUTCOMES_OF_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mm_orch.core.mind_report import OutcomeStatistics
    from mm_orch.storage.outcomes import Kind, Outcome

    Key = tuple[Kind, str, str]

# Routing asks with each request, and what it asks for changes slowly.
_MAX_STALE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Summary:
    at_s: float
    by_workflow: dict[str, OutcomeStatistics]
    by_model: dict[str, OutcomeStatistics]


class OutcomeMemory:
    """Implements outcome_statistics.PastOutcomes.

    Args:
        half_life_s: an outcome this old weighs half.
        now: seconds since 1970.
    """

    def __init__(self, half_life_s: float, now: Callable[[], float]) -> None:
        self.half_life_s = half_life_s
        self._now = now
        # By their last use, the latest last.
        self._ring_by_key: dict[Key, deque[Outcome]] = {}
        # INVARIANT: how many of the outcomes in the rings each request has; none of 0.
        self._num_by_request: Counter[tuple[str, str]] = Counter()
        self._summary: _Summary | None = None

    def __iter__(self) -> Iterator[Outcome]:
        return (outcome for ring in self._ring_by_key.values() for outcome in ring)

    def add(self, outcome: Outcome) -> None:
        """Remember an outcome."""
        key = (outcome.kind, outcome.workflow, outcome.model)
        ring = self._ring_by_key.pop(key, None)
        if ring is None:
            ring = deque()
            if len(self._ring_by_key) >= MAX_KEYS:
                for one in self._ring_by_key.pop(next(iter(self._ring_by_key))):
                    self._forget(one)
        elif len(ring) >= MAX_OUTCOMES_OF_KEY:
            self._forget(ring.popleft())
        ring.append(outcome)
        self._ring_by_key[key] = ring
        self._num_by_request[_request_of(outcome)] += 1

    def restore(self, outcomes: Iterable[Outcome]) -> None:
        """Remember what was stored before anything of now, the oldest first."""
        later = list(self)
        self._ring_by_key.clear()
        self._num_by_request.clear()
        for outcome in (*outcomes, *later):
            self.add(outcome)
        self._summary = None

    def find(self, caller: str, request_id: str) -> list[Outcome]:
        """Return what is remembered of a caller's request; of an unknown one at once."""
        request = (caller, request_id)
        if request not in self._num_by_request:
            return []
        return [one for one in self if _request_of(one) == request]

    def rate(self, caller: str, request_id: str, score: float) -> None:
        """Note what a caller thought of its request."""
        for ring in self._ring_by_key.values():
            for place, one in enumerate(ring):
                if _request_of(one) == (caller, request_id):
                    ring[place] = replace(one, feedback=score)
        self._summary = None

    def outcomes_by_workflow(self) -> dict[str, OutcomeStatistics]:
        """See PastOutcomes; at most 5 s old."""
        return self._summarise().by_workflow

    def outcomes_by_model(self) -> dict[str, OutcomeStatistics]:
        """See PastOutcomes; at most 5 s old."""
        return self._summarise().by_model

    def forget_summary(self) -> None:
        """Have the next question answered with what is so now."""
        self._summary = None

    def _forget(self, outcome: Outcome) -> None:
        request = _request_of(outcome)
        self._num_by_request[request] -= 1
        if not self._num_by_request[request]:
            del self._num_by_request[request]

    def _summarise(self) -> _Summary:
        now_s = self._now()
        known = self._summary
        if known is None or not 0.0 <= now_s - known.at_s < _MAX_STALE_S:
            known = self._summary = _Summary(
                now_s,
                self._summarise_kind("run", lambda one: one.workflow, now_s),
                self._summarise_kind("generation", lambda one: one.model, now_s),
            )
        return known

    def _summarise_kind(
        self, kind: Kind, key: Callable[[Outcome], str], now_s: float
    ) -> dict[str, OutcomeStatistics]:
        outcomes = (one for one in self if one.kind == kind)
        return summarise(outcomes, key=key, now_s=now_s, half_life_s=self.half_life_s)


def _request_of(outcome: Outcome) -> tuple[str, str]:
    return outcome.caller, outcome.request_id
