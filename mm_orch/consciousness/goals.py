"""What the operator wants of an answer: how much quality, latency and cost count in a choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.config.schema.consciousness import ConsciousnessSettings

LATENCY_OF_HALF_S = 10.0
"""An answer that takes so long is worth half of one that comes at once."""
COST_OF_HALF = 1000.0
"""An answer that costs so much is worth half of one that costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Weights from 0 to 1 (``consciousness.goals``); only their proportions count.

    Raises:
        ValueError: a weight is outside of 0 to 1, or all of them are 0.
    """

    quality: float = 0.6
    latency: float = 0.2
    cost: float = 0.2

    def __post_init__(self) -> None:
        for name in ("quality", "latency", "cost"):
            weight = getattr(self, name)
            if not 0.0 <= weight <= 1.0:
                raise ValueError(f"The goal {name} is {weight}; goals are from 0 to 1.")
        if self.total == 0.0:
            raise ValueError("All goals are 0; at least one must be above.")

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return self.quality + self.latency + self.cost


def goals_of(configured: ConsciousnessSettings) -> Goals:
    """Return the configured goals; the default ones where the section is switched off."""
    if not configured.enabled:
        return Goals()
    goals = configured.goals
    return Goals(quality=goals.quality, latency=goals.latency, cost=goals.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the ways to answer: a model, a workflow, or a workflow with a model.

    Attributes:
        name: by which it is chosen.
        expected_quality: chance that its answer is right, 0 to 1.
        expected_latency_s: seconds until its answer is complete.
        expected_cost: tokens of prompts and answers, times the model's parameters in billions
            (where those are not known, times 1).

    Raises:
        ValueError: a number is outside of what it may be.
    """

    name: str
    expected_quality: float
    expected_latency_s: float
    expected_cost: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.expected_quality <= 1.0:
            raise ValueError(
                f"{self.name} is expected to have the quality {self.expected_quality};"
                " it is from 0 to 1."
            )
        for what in ("expected_latency_s", "expected_cost"):
            value = getattr(self, what)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{self.name} has {what} {value}; it is finite and 0 or more.")


def score(candidate: Candidate, goals: Goals) -> float:
    """Return how well a candidate serves the goals, 0 to 1; more is better.

    The weighted mean of its quality and of what its latency and its cost leave, each of which
    falls hyperbolically: 1 for nothing, a half at LATENCY_OF_HALF_S or COST_OF_HALF. It depends on
    no other candidate: one more of them never turns round the order of two.
    """
    promptness = 1.0 / (1.0 + candidate.expected_latency_s / LATENCY_OF_HALF_S)
    thrift = 1.0 / (1.0 + candidate.expected_cost / COST_OF_HALF)
    return (
        goals.quality * candidate.expected_quality
        + goals.latency * promptness
        + goals.cost * thrift
    ) / goals.total


def rank(candidates: Iterable[Candidate], goals: Goals) -> tuple[Candidate, ...]:
    """Return the candidates, the best first; of equal ones the cheaper, then as they came."""
    return tuple(sorted(candidates, key=lambda one: (-score(one, goals), one.expected_cost)))
