"""Which engine runs a model: the first in order of preference that can. A pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.optimization.engines.contract import Availability


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine to use, and those preferred to it that cannot run, with their reasons."""

    engine: str
    skipped: tuple[Availability, ...]


def choose_engine(preference: Iterable[Availability]) -> EngineChoice:
    """Take the first available engine.

    Args:
        preference: probes in order of preference.

    Raises:
        EngineStartError: none can run; lists each with its reason and remedy.
    """
    skipped: list[Availability] = []
    for availability in preference:
        if availability.is_available:
            return EngineChoice(availability.engine, tuple(skipped))
        skipped.append(availability)
    reasons = "; ".join(f"{a.engine}: {a.reason} ({a.remedy})" for a in skipped)
    raise EngineStartError(f"No engine can run here. {reasons}.")
