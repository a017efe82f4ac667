"""What was chosen for a call and why, as answers, traces and metrics tell it: shapes alone."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

AUTO = "auto"
"""Asks for a choice where a model or a workflow is named."""

WorkflowChosenBy = Literal["learned", "rules", "default"]
ModelChosenBy = Literal["only", "scores", "outcomes", "default"]


class RankedWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that could have answered.

    Attributes:
        score: its share of belief, 0 to 1, as past outcomes changed it.
        belief: its share by the query alone; None where the query was not looked at.
    """

    workflow: str
    score: float
    belief: float | None = None


class RuledOut(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow or a model that could not be chosen now, and why."""

    name: str
    reason: str


class WorkflowChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which workflow answers a call that named none.

    Attributes:
        workflow: the chosen one.
        confidence: how likely that is right, 0 to 1.
        by: who decided.
        reason: why, in words.
        alternatives: all that could be chosen, the chosen one first, the others by falling score.
        ruled_out: those that cannot answer the call now.
    """

    workflow: str
    confidence: float
    by: WorkflowChosenBy
    reason: str
    alternatives: tuple[RankedWorkflow, ...]
    ruled_out: tuple[RuledOut, ...] = ()

    @property
    def belief_by_workflow(self) -> dict[str, float]:
        """The belief in each by the query alone; empty where the query was not looked at."""
        return {one.workflow: one.belief for one in self.alternatives if one.belief is not None}


class RankedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that could have answered.

    Attributes:
        score: how well it serves the operator's goals, 0 to 1.
        expected_quality: chance that its answer is right, 0 to 1.
        expected_latency_s: seconds until the answer is complete, with loading and waiting.
        expected_cost: tokens times the model's parameters in billions.
    """

    model: str
    score: float
    expected_quality: float
    expected_latency_s: float
    expected_cost: float


class ModelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which model answers a request for the model ``auto``.

    Attributes:
        model: the chosen one.
        by: what decided: there is only one that can, the scores, the scores as past outcomes
            changed them, or the default where none fits.
        reason: why, in words.
        alternatives: all that fit, the chosen one first.
        ruled_out: those that do not fit the request, or cannot answer now.
    """

    model: str
    by: ModelChosenBy
    reason: str
    alternatives: tuple[RankedModel, ...] = ()
    ruled_out: tuple[RuledOut, ...] = ()


class Routing(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen for a call; None for what the call named itself."""

    workflow: WorkflowChoice | None = None
    model: ModelChoice | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen."""
        return self.workflow is None and self.model is None

    def describe(self) -> dict[str, Any]:
        """Return it in words that JSON has."""
        described: dict[str, Any] = msgspec.to_builtins(self)
        return described


NOTHING_CHOSEN = Routing()
