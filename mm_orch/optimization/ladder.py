"""Which engine runs a model next: the first in order of preference that can. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.circuit import Circuit, CircuitState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.clock import Clock
    from mm_orch.optimization.engines.contract import Availability


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine to start, once so many seconds are over."""

    engine: str
    wait_s: float


class EngineLadder:
    """One model's engines in order of preference, each with its circuit.

    Args:
        engines: the preferred one first.
        is_falling_back: False keeps to the first engine that can run here, whatever happens to it.

    Attributes:
        last: engines that are chosen only where no other may be started.
    """

    def __init__(
        self, engines: Iterable[str], clock: Clock, *, is_falling_back: bool = True
    ) -> None:
        self.circuit_by_engine = {engine: Circuit(clock) for engine in engines}
        self._is_falling_back = is_falling_back
        self._clock = clock
        self.last: frozenset[str] = frozenset()

    def keep(self, engines: Iterable[str]) -> EngineLadder:
        """Return a ladder of these of the engines; their circuits are the same ones."""
        part = EngineLadder((), self._clock, is_falling_back=self._is_falling_back)
        part.circuit_by_engine = {engine: self.circuit_by_engine[engine] for engine in engines}
        return part

    def order(self, engines: Iterable[str]) -> None:
        """Put all of the engines into another order of preference."""
        self.circuit_by_engine = {engine: self.circuit_by_engine[engine] for engine in engines}

    def put_last(self, engines: Iterable[str]) -> None:
        """Choose these only where no other may be started now: they lack the device they want."""
        self.last = frozenset(engines)

    def choose(self, probes: Iterable[Availability]) -> Candidate:
        """Take the first engine that can run here and may be started, else the next to be.

        Args:
            probes: one an engine.

        Raises:
            EngineStartError: none can run here; lists each with its reason and remedy.
        """
        place = {engine: index for index, engine in enumerate(self.circuit_by_engine)}
        last = self.last if self._is_falling_back else ()
        probes = sorted(probes, key=lambda one: (one.engine in last, place[one.engine]))
        able = [probe.engine for probe in probes if probe.is_available]
        if not able:
            reasons = "; ".join(f"{a.engine}: {a.reason} ({a.remedy})" for a in probes)
            raise EngineStartError(f"No engine can run here. {reasons}.")
        candidates = able if self._is_falling_back else able[:1]
        return self._soonest(candidates)

    def find_better(self, engine: str) -> Candidate | None:
        """Return the preferred engine to go back to from this one; None where there is none.

        Only engines that failed count: one that could not run here at the start needs a restart.
        """
        engines = list(self.circuit_by_engine)
        failed = [
            one
            for one in engines[: engines.index(engine)]
            if self.circuit_by_engine[one].state is not CircuitState.CLOSED
        ]
        return self._soonest(failed) if failed and self._is_falling_back else None

    def describe_fallback(self, engine: str) -> tuple[str, str] | None:
        """Return the preferred engine that does not run and why; None where the best one does."""
        for one, circuit in self.circuit_by_engine.items():
            if one == engine:
                return None
            if circuit.state is not CircuitState.CLOSED:
                return one, circuit.reason
        return None

    def _soonest(self, engines: Iterable[str]) -> Candidate:
        waits = [Candidate(one, self.circuit_by_engine[one].wait_s) for one in engines]
        # min keeps the first of equals, which is the preferred one.
        return min(waits, key=lambda candidate: candidate.wait_s)
