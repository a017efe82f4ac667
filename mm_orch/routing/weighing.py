"""What turns the belief in each workflow into a choice: past outcomes, and the operator's goals.

belief    by the query alone
score     the belief, as outcomes and what was learned of them change it
chosen    the highest score, or one that is nearly as high and serves the goals better
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.consciousness.goals import Goals
from mm_orch.routing.outcomes import weigh_outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.mind_report import OutcomeStatistics
    from mm_orch.routing.route import Workflow

CLEAR_LEAD = 0.1
"""A workflow whose score is higher by as much is taken whatever the goals are."""
# Calls of a model that an answer takes at least: what it costs and how long it lasts.
_NUM_CALLS: dict[Workflow, int] = {
    "chat_generate": 1,
    "rag_qa": 1,
    "search_qa": 2,
    "lesson_pack": 3,
    "self_ask_search_qa": 4,
}
# What a call takes away from latency and cost, as shares are of quality. With the default goals a
# dearer workflow has to be likelier by 0.01 for each call more.
_WORTH_OF_A_CALL = 0.015


@dataclass(frozen=True, slots=True)
class Weighed:
    """What has become of the beliefs.

    Attributes:
        chosen: the workflow that is taken.
        score_by_workflow: the beliefs as outcomes change them; their sum stays what it was.
        note: sentences on what turned the choice from the likeliest; empty where nothing did.
    """

    chosen: Workflow
    score_by_workflow: Mapping[Workflow, float]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """Decides without I/O and keeps nothing.

    Attributes:
        goals: of the operator.
        past_by_workflow: how workflows did; nothing of one changes nothing.
        bias_by_workflow: what was learned from feedback, added to the logarithm of a belief.
    """

    goals: Goals = field(default_factory=Goals)
    past_by_workflow: Mapping[str, OutcomeStatistics] = field(default_factory=dict)
    bias_by_workflow: Mapping[str, float] = field(default_factory=dict)

    def choose(
        self, belief_by_workflow: Mapping[Workflow, float], *, said: Workflow | None
    ) -> Weighed:
        """Return the workflow that is taken.

        Args:
            belief_by_workflow: in the order in which of equal ones the first leads; at least one.
            said: what the query says it wants in so many words; where that leads, it leads
                whatever the past was like.
        """
        before = self._find_best(belief_by_workflow)
        scores = dict(belief_by_workflow)
        if before != said:
            scores = weigh_outcomes(self._add_biases(scores), self.past_by_workflow)
        likeliest = max(scores, key=lambda one: scores[one])
        chosen = self._find_best(scores)
        notes = []
        if chosen != before:
            notes.append(f"How earlier answers did speaks for {chosen} over {before}.")
        if scores[chosen] < scores[likeliest]:
            notes.append(
                f"{likeliest} is likelier by {scores[likeliest] - scores[chosen]:.3f}, but takes"
                f" {_NUM_CALLS[likeliest]} calls of a model or more, and {chosen}"
                f" {_NUM_CALLS[chosen]}: the goals latency and cost weigh more."
            )
        return Weighed(chosen, scores, " ".join(notes))

    def _find_best(self, score_by_workflow: Mapping[Workflow, float]) -> Workflow:
        """Return what serves the goals best of those that are nearly the likeliest."""
        goals = self.goals
        least = max(score_by_workflow.values()) - CLEAR_LEAD
        near = [one for one, score in score_by_workflow.items() if score > least]
        return max(
            near,
            key=lambda one: (
                goals.quality * score_by_workflow[one]
                - _WORTH_OF_A_CALL * (goals.latency + goals.cost) * _NUM_CALLS[one]
            ),
        )

    def _add_biases(self, score_by_workflow: Mapping[Workflow, float]) -> dict[Workflow, float]:
        raised = {
            one: score * math.exp(self.bias_by_workflow.get(one, 0.0))
            for one, score in score_by_workflow.items()
        }
        total, before = sum(raised.values()), sum(score_by_workflow.values())
        return {one: score * before / total for one, score in raised.items()}
