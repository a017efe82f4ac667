"""What answers tell of the choice of a workflow and of a model, for /openapi.json."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class RankedWorkflowAnswer(BaseModel):
    """A workflow that could have answered, and its share of belief, 0 to 1.

    ``belief`` is by the query alone, ``score`` as past outcomes changed it.
    """

    workflow: str
    score: float
    belief: float | None


class RuledOutAnswer(BaseModel):
    """A workflow or a model that could not be chosen, and why."""

    name: str
    reason: str


class WorkflowChoiceAnswer(BaseModel):
    """Which workflow was chosen; ``alternatives`` begins with it, the others by falling score."""

    workflow: str
    confidence: float
    by: Literal["learned", "rules", "default"]
    reason: str
    alternatives: list[RankedWorkflowAnswer]
    ruled_out: list[RuledOutAnswer]


class RankedModelAnswer(BaseModel):
    """A model that could have answered: its score from 0 to 1, and what that comes from.

    ``expected_quality`` is a chance, ``expected_latency_s`` in seconds, ``expected_cost`` in tokens
    times the model's parameters in billions.
    """

    model: str
    score: float
    expected_quality: float
    expected_latency_s: float
    expected_cost: float


class ModelChoiceAnswer(BaseModel):
    """Which model was chosen; ``alternatives`` begins with it, the others by falling score."""

    model: str
    by: Literal["only", "scores", "outcomes", "default"]
    reason: str
    alternatives: list[RankedModelAnswer]
    ruled_out: list[RuledOutAnswer]


class RoutingAnswer(BaseModel):
    """What was chosen for the call; null for what it named itself."""

    workflow: WorkflowChoiceAnswer | None
    model: ModelChoiceAnswer | None


class RouteEvent(RoutingAnswer):
    """An event ``route``, before all others: what was chosen for the query."""
