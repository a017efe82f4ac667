"""Which engines of a model have found no place, and what is done about it.

That is no fault of theirs. So no circuit opens, no other engine takes the turn, and the same one
asks again after a short, steady pause. Whoever waits for the model goes on waiting for a while:
where a node was lost, the next try often succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.place_errors import NoPlaceError
from mm_orch.optimization.telling import log_failure

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock

PAUSE_S = 5.0
"""From one failed try to the next."""
_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class _Lack:
    reason: str
    since_s: float
    retry_at_s: float


class LackingPlaces:
    """The engines of one model that lack a place now."""

    def __init__(self, model: str, clock: Clock) -> None:
        self._model = model
        self._clock = clock
        self._lacks: dict[str, _Lack] = {}

    def take(self, engine: str, error: Exception, *, begun_s: float) -> bool:
        """Take why an engine could not be started; return whether it was for want of a place.

        Args:
            engine: that was to be started.
            error: of its start.
            begun_s: when this start was begun.
        """
        known = self._lacks.pop(engine, None)
        if not isinstance(error, NoPlaceError):
            return False
        if known is None:
            # The tries that follow are no news.
            log_failure(f"{self._model}: {engine} has no place and goes on asking for one", error)
        since_s = known.since_s if known else begun_s
        self._lacks[engine] = _Lack(str(error), since_s, self._clock() + PAUSE_S)
        return True

    def forget(self, engine: str) -> None:
        """Note that the engine has a place."""
        self._lacks.pop(engine, None)

    def find_reason(self, engine: str) -> str:
        """Return why the engine has no place; empty where it is not known to lack one."""
        lack = self._lacks.get(engine)
        return lack.reason if lack else ""

    def find_wait_s(self, engine: str) -> float:
        """Return the seconds until the engine may ask again; 0 where it may now."""
        lack = self._lacks.get(engine)
        return max(0.0, lack.retry_at_s - self._clock()) if lack else 0.0

    def is_hopeless(self, engine: str) -> bool:
        """Whether the engine lacks a place for so long that nobody should wait for it."""
        lack = self._lacks.get(engine)
        return lack is not None and self._clock() - lack.since_s >= _PATIENCE_S
