"""What the autoscaler tells of a model's replicas, in the shape that the HTTP face answers with."""

from __future__ import annotations

from typing import Protocol

import msgspec


class ScalingReport(msgspec.Struct, frozen=True, kw_only=True):
    """Between which numbers the replicas follow the load, and the last decision.

    Attributes:
        least: fewest replicas.
        most: most replicas.
        direction: of the last decision: up, down, or held where more are needed and there cannot
            be more; empty before the first.
        count: how many there are to be since then; None before the first.
        rationale: why, in words.
        at: when, ISO 8601 in UTC; empty before the first.
    """

    least: int
    most: int
    direction: str = ""
    count: int | None = None
    rationale: str = ""
    at: str = ""


class ScalingReports(Protocol):
    """Answers what was decided, at once and without waiting."""

    def report(self, model: str) -> ScalingReport | None:
        """What is told of a model; None where its replicas do not follow its load."""
