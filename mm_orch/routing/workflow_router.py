"""Chooses the workflow for a query: by what was learned, else by rules, else the default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.routing.query import prepare_query
from mm_orch.routing.route import DEFAULT_WORKFLOW, WORKFLOWS, Alternative, Route
from mm_orch.routing.rules import gather_evidence, weigh
from mm_orch.routing.weighing import Weighed, Weighing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mm_orch.routing.learned import LearnedModel
    from mm_orch.routing.route import DecidedBy, RouteContext, Workflow
    from mm_orch.routing.rules import RuleVote, RuleWeights

# What the rules say with such a share, and can say why, stands, whatever the past was like.
_SAID_SHARE = 0.8
_NUM_REASONS = 3
_BY_DEFAULT = Weighing()


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
        weighing: Weighing = _BY_DEFAULT,
    ) -> Route:
        """Return the workflow for a query, of those that are available.

        Args:
            query: what is asked.
            context: what there is beside it.
            available: what may be chosen.
            weighing: what else counts beside the query.

        Raises:
            ValueError: none is available.
        """
        allowed = [workflow for workflow in WORKFLOWS if workflow in available]
        if not allowed:
            raise ValueError(f"No workflow is available; there are {', '.join(WORKFLOWS)}.")
        if self.learned is None and self.rules is None:
            # Perhaps for want of the tables that the rest goes by.
            return _make_default(allowed, weighing)
        prepared = prepare_query(query)
        evidence = gather_evidence(prepared, context)
        vote = None if self.rules is None else weigh(evidence, self.rules)
        said = None if vote is None else _find_said(vote)
        if self.learned is not None:
            shares = self.learned.shares(prepared, context, evidence)
            beliefs = _share_among(allowed, shares)
            if max(beliefs.values()) >= self.learned.header.min_confidence:
                return _make_route(beliefs, weighing.choose(beliefs, said=said), "learned", vote)
        if vote is not None:
            beliefs = _share_among(allowed, vote.shares)
            weighed = weighing.choose(beliefs, said=said)
            if vote.reasons_by_workflow[weighed.chosen]:
                return _make_route(beliefs, weighed, "rules", vote)
        return _make_default(allowed, weighing)


def _share_among(allowed: list[Workflow], shares: tuple[float, ...]) -> dict[Workflow, float]:
    """Return the shares of those that may be chosen, made to sum to 1."""
    kept = {one: share for one, share in zip(WORKFLOWS, shares, strict=True) if one in allowed}
    total = sum(kept.values())
    if total <= 0:
        return dict.fromkeys(allowed, 1 / len(allowed))
    return {workflow: share / total for workflow, share in kept.items()}


def _find_said(vote: RuleVote) -> Workflow | None:
    """Return what the rules say, where they say it in so many words; of a share above a half."""
    share, workflow = max(zip(vote.shares, WORKFLOWS, strict=True))
    return workflow if share >= _SAID_SHARE and vote.reasons_by_workflow[workflow] else None


def _make_default(allowed: list[Workflow], weighing: Weighing) -> Route:
    equal = dict.fromkeys(allowed, 1 / len(allowed))
    chosen = DEFAULT_WORKFLOW
    if chosen not in allowed:
        chosen = Weighing(goals=weighing.goals).choose(equal, said=None).chosen
    return _make_route(equal, Weighed(chosen, equal, ""), "default", None)


def _make_route(
    belief_by_workflow: Mapping[Workflow, float],
    weighed: Weighed,
    by: DecidedBy,
    vote: RuleVote | None,
) -> Route:
    chosen, scores = weighed.chosen, weighed.score_by_workflow
    others = sorted((one for one in scores if one != chosen), key=lambda one: -scores[one])
    reason = _explain(chosen, by, vote)
    return Route(
        workflow=chosen,
        confidence=scores[chosen],
        alternatives=tuple(
            Alternative(one, scores[one], belief_by_workflow[one]) for one in (chosen, *others)
        ),
        reason=f"{reason} {weighed.note}" if weighed.note else reason,
        by=by,
    )


def _explain(chosen: Workflow, by: DecidedBy, vote: RuleVote | None) -> str:
    if by == "default":
        return "Nothing in the query asks for another workflow."
    seen = vote.reasons_by_workflow[chosen][:_NUM_REASONS] if vote is not None else ()
    if not seen:
        return f"Its wording is like that of queries for {chosen}."
    return f"The query {'; it '.join(seen)}."
