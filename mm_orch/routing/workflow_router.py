"""Chooses the workflow for a query: by what was learned, else by rules, else the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.routing.outcomes import weigh_outcomes
from mm_orch.routing.query import prepare_query
from mm_orch.routing.route import DEFAULT_WORKFLOW, WORKFLOWS, Alternative, Route
from mm_orch.routing.rules import gather_evidence, weigh

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mm_orch.core.mind_report import OutcomeStatistics
    from mm_orch.routing.learned import LearnedModel
    from mm_orch.routing.route import DecidedBy, RouteContext, Workflow
    from mm_orch.routing.rules import RuleVote, RuleWeights

# Calls of a model that an answer takes at least: what it costs and how long it lasts.
_NUM_CALLS: dict[Workflow, int] = {
    "chat_generate": 1,
    "rag_qa": 1,
    "search_qa": 2,
    "lesson_pack": 3,
    "self_ask_search_qa": 4,
}
# A dearer workflow must be so much likelier for each call more.
_SCORE_OF_A_CALL = 0.01
# What the rules say with such a share, and can say why, stands, whatever the past was like.
_SAID_SHARE = 0.8
_NUM_REASONS = 3


@dataclass(frozen=True, slots=True)
class WorkflowRouter:
    """Decides without I/O and keeps nothing.

    Attributes:
        learned: what was learned from labelled queries, or None to go by rules.
        rules: the weights of the rules, or None to take the default.
    """

    learned: LearnedModel | None
    rules: RuleWeights | None

    def choose(
        self,
        query: str,
        context: RouteContext,
        *,
        available: Collection[Workflow] = WORKFLOWS,
        past_by_workflow: Mapping[str, OutcomeStatistics] | None = None,
    ) -> Route:
        """Return the workflow for a query, of those that are available.

        Args:
            query: what is asked.
            context: what there is beside it.
            available: what may be chosen.
            past_by_workflow: how they did; None or nothing of one changes nothing.

        Raises:
            ValueError: none is available.
        """
        allowed = [workflow for workflow in WORKFLOWS if workflow in available]
        if not allowed:
            raise ValueError(f"No workflow is available; there are {', '.join(WORKFLOWS)}.")
        if self.learned is None and self.rules is None:
            # Perhaps for want of the tables that the rest goes by.
            return _make_default(allowed)
        prepared = prepare_query(query)
        evidence = gather_evidence(prepared, context)
        vote = None if self.rules is None else weigh(evidence, self.rules)
        if self.learned is not None:
            shares = self.learned.shares(prepared, context, evidence)
            score_by_workflow = _share_among(allowed, shares)
            if max(score_by_workflow.values()) >= self.learned.header.min_confidence:
                score_by_workflow = _weigh_past(score_by_workflow, vote, past_by_workflow)
                chosen = _weigh_cost(score_by_workflow)
                return _make_route(chosen, score_by_workflow, "learned", vote)
        if vote is not None:
            score_by_workflow = _share_among(allowed, vote.shares)
            score_by_workflow = _weigh_past(score_by_workflow, vote, past_by_workflow)
            chosen = _weigh_cost(score_by_workflow)
            if vote.reasons_by_workflow[chosen]:
                return _make_route(chosen, score_by_workflow, "rules", vote)
        return _make_default(allowed)


def _share_among(allowed: list[Workflow], shares: tuple[float, ...]) -> dict[Workflow, float]:
    """Return the shares of those that may be chosen, made to sum to 1."""
    kept = {one: share for one, share in zip(WORKFLOWS, shares, strict=True) if one in allowed}
    total = sum(kept.values())
    if total <= 0:
        return dict.fromkeys(allowed, 1 / len(allowed))
    return {workflow: share / total for workflow, share in kept.items()}


def _weigh_cost(score_by_workflow: Mapping[Workflow, float]) -> Workflow:
    """Return the likeliest, or one that is nearly as likely and cheaper.

    Of equal ones the first in the order of WORKFLOWS.
    """
    return max(
        score_by_workflow,
        key=lambda one: score_by_workflow[one] - _SCORE_OF_A_CALL * _NUM_CALLS[one],
    )


def _weigh_past(
    score_by_workflow: dict[Workflow, float],
    vote: RuleVote | None,
    past_by_workflow: Mapping[str, OutcomeStatistics] | None,
) -> dict[Workflow, float]:
    """Return the scores as past outcomes change them; what a query says it wants stands."""
    leader = _weigh_cost(score_by_workflow)
    if not past_by_workflow or (vote is not None and _is_said(leader, vote)):
        return score_by_workflow
    return weigh_outcomes(score_by_workflow, past_by_workflow)


def _is_said(workflow: Workflow, vote: RuleVote) -> bool:
    share = vote.shares[WORKFLOWS.index(workflow)]
    return share >= _SAID_SHARE and bool(vote.reasons_by_workflow[workflow])


def _make_default(allowed: list[Workflow]) -> Route:
    equal = dict.fromkeys(allowed, 1 / len(allowed))
    chosen = DEFAULT_WORKFLOW if DEFAULT_WORKFLOW in allowed else _weigh_cost(equal)
    return _make_route(chosen, equal, "default", None)


def _make_route(
    chosen: Workflow,
    score_by_workflow: Mapping[Workflow, float],
    by: DecidedBy,
    vote: RuleVote | None,
) -> Route:
    others = sorted(
        (one for one in score_by_workflow if one != chosen), key=lambda one: -score_by_workflow[one]
    )
    return Route(
        workflow=chosen,
        confidence=score_by_workflow[chosen],
        alternatives=tuple(Alternative(one, score_by_workflow[one]) for one in (chosen, *others)),
        reason=_explain(chosen, by, vote),
        by=by,
    )


def _explain(chosen: Workflow, by: DecidedBy, vote: RuleVote | None) -> str:
    if by == "default":
        return "Nothing in the query asks for another workflow."
    seen = vote.reasons_by_workflow[chosen][:_NUM_REASONS] if vote is not None else ()
    if not seen:
        return f"Its wording is like that of queries for {chosen}."
    return f"The query {'; it '.join(seen)}."
