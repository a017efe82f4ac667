"""Chooses the workflow of calls that name none, among those that can answer them now."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.consciousness.goals import Goals
from mm_orch.core.errors import MuAIError
from mm_orch.core.routing import RankedWorkflow, RuledOut, WorkflowChoice
from mm_orch.routing.loading import load_workflow_router
from mm_orch.routing.route import DEFAULT_WORKFLOW, WORKFLOWS, RouteContext
from mm_orch.routing.weighing import Weighing
from mm_orch.workflows.contract import KEPT, Circumstances

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mm_orch.core.mind_report import OutcomeStatistics
    from mm_orch.routing.route import Route
    from mm_orch.routing.route import Workflow as WorkflowName
    from mm_orch.routing.workflow_router import WorkflowRouter
    from mm_orch.workflows.advice import Advisor
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.contract import Services, Workflow
    from mm_orch.workflows.registry import WorkflowRegistry

    HasDocuments = Callable[[str], Awaitable[bool]]
    PastByWorkflow = Callable[[], Mapping[str, OutcomeStatistics]]

logger = logging.getLogger(__name__)

_NEED_DOCUMENTS = frozenset({"rag_qa"})


async def _none_have_documents(_: str) -> bool:
    return False


def _no_past() -> Mapping[str, OutcomeStatistics]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """The slice of the configuration that choosing needs.

    Attributes:
        is_by_default: choose too where no workflow is named; else only where ``auto`` is.
        min_confidence: what is less likely gives way to the default workflow.
        allowed: what may be chosen.
        goals: of the operator.
    """

    is_by_default: bool = True
    min_confidence: float = 0.0
    allowed: tuple[str, ...] = WORKFLOWS
    goals: Goals = field(default_factory=Goals)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSources:
    """Whom choosing asks beside the router.

    Attributes:
        has_documents: whether an owner has documents that can be searched.
        past_by_workflow: how workflows did; answers at once.
        bias_by_workflow: what was learned from feedback; answers at once.
        load_router: reads tables and weights; blocks.
        advisor: knows which workflows are allowed; None allows all.
    """

    has_documents: HasDocuments = _none_have_documents
    past_by_workflow: PastByWorkflow = _no_past
    bias_by_workflow: Callable[[], Mapping[str, float]] = dict
    load_router: Callable[[], WorkflowRouter] = field(default=load_workflow_router)
    advisor: Advisor | None = None


class WorkflowRoutes:
    """Chooses; the router is loaded, in a thread, when the first choice needs it.

    Args:
        registry: knows the workflows.
        settings: from the configuration.
        sources: whom it asks.
    """

    def __init__(
        self, registry: WorkflowRegistry, settings: RoutingSettings, sources: RoutingSources
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._sources = sources
        self._loading: asyncio.Task[WorkflowRouter] | None = None

    async def choose(self, call: WorkflowCall, services: Services) -> WorkflowChoice:
        """Return the workflow for a call; where none of them can answer it, the default."""
        has_documents = await self._find_documents(call.owner)
        around = Circumstances(call=call, services=services, has_documents=has_documents)
        reason_by_ruled_out = await self._find_obstacles(around)
        able = [name for name in WORKFLOWS if name not in reason_by_ruled_out]
        ruled_out = tuple(
            RuledOut(name=name, reason=reason) for name, reason in reason_by_ruled_out.items()
        )
        if not able:
            reason = "None of those that may be chosen can answer it now."
            return _without_choice(DEFAULT_WORKFLOW, (), reason, ruled_out)
        if len(able) == 1:
            reason = f"{able[0]} is the only workflow that can answer it now."
            return _without_choice(able[0], able, reason, ruled_out)
        route = (await self._find_router()).choose(
            call.question,
            RouteContext(has_documents=has_documents, has_session=_goes_on(call)),
            available=able,
            weighing=Weighing(
                goals=self.settings.goals,
                past_by_workflow=self._sources.past_by_workflow(),
                bias_by_workflow=self._sources.bias_by_workflow(),
            ),
        )
        return settle(route, self.settings.min_confidence, ruled_out)

    def _is_unlocked(self, workflow: str) -> bool:
        advisor = self._sources.advisor
        return advisor is None or advisor.is_unlocked(workflow)

    async def _find_router(self) -> WorkflowRouter:
        if self._loading is None:
            self._loading = asyncio.create_task(
                asyncio.to_thread(self._sources.load_router),
                name="load the workflow router",
                # It outlives the request that began it, and is no part of that one's trace.
                context=contextvars.Context(),
            )
        return await asyncio.shield(self._loading)

    async def _find_documents(self, owner: str) -> bool:
        try:
            return await self._sources.has_documents(owner)
        except MuAIError as error:
            # Whoever needs no document is answered all the same.
            logger.warning("a query is routed as if there were no documents: %s", error)
            return False

    async def _find_obstacles(self, around: Circumstances) -> dict[str, str]:
        """Return why workflows cannot answer a call, by their names."""
        usable = {one.name: one for one in await self._registry.find_usable(WORKFLOWS)}
        found: dict[str, str] = {}
        for name in WORKFLOWS:
            if name not in self.settings.allowed:
                reason: str | None = "routing.workflows.allowed does not name it"
            elif not self._is_unlocked(name):
                reason = "its stage of development is not reached"
            else:
                reason = _find_obstacle(usable.get(name), around)
            if reason is not None:
                found[name] = reason
        return found


def _find_obstacle(workflow: Workflow | None, around: Circumstances) -> str | None:
    if workflow is None:
        return "it is not installed, or cannot be imported"
    if around.call.session is not None and KEPT not in workflow.graph.results:
        return "it keeps no turns, and the call belongs to a session"
    if workflow.name in _NEED_DOCUMENTS and not around.has_documents:
        return "the caller has no documents"
    return workflow.find_obstacle(around)


def _goes_on(call: WorkflowCall) -> bool:
    """Whether there are earlier turns, stored or sent along."""
    is_stored = call.session is not None and not call.session.is_new
    return is_stored or any(message.role == "assistant" for message in call.messages)


def choose_own(advisor: Advisor | None, call: WorkflowCall) -> WorkflowChoice | None:
    """Choose the workflow of a question about the system itself, if the call is no more."""
    if advisor is None or call.session is not None or len(call.messages) > 1:
        return None
    workflow = advisor.find_workflow(call.question)
    if workflow is None:
        return None
    return WorkflowChoice(
        workflow=workflow,
        confidence=1.0,
        by="rules",
        reason="The question is about this system itself.",
        alternatives=(RankedWorkflow(workflow=workflow, score=1.0),),
    )


def settle(
    route: Route, min_confidence: float, ruled_out: tuple[RuledOut, ...] = ()
) -> WorkflowChoice:
    """Return a route as it is told; the default in place of one that is too unsure."""
    score_by_workflow = {one.workflow: one.score for one in route.alternatives}
    belief_by_workflow = {one.workflow: one.belief for one in route.alternatives}
    chosen, by, reason = route.workflow, route.by, route.reason
    if route.confidence < min_confidence and DEFAULT_WORKFLOW in score_by_workflow:
        reason = (
            f"{chosen} would be chosen, with {route.confidence:.2f};"
            f" routing.workflows.min_confidence is {min_confidence:g}."
        )
        chosen, by = DEFAULT_WORKFLOW, "default"
    names: list[WorkflowName] = [chosen, *(one for one in score_by_workflow if one != chosen)]
    return WorkflowChoice(
        workflow=chosen,
        confidence=score_by_workflow[chosen],
        by=by,
        reason=reason,
        alternatives=tuple(
            RankedWorkflow(
                workflow=name, score=score_by_workflow[name], belief=belief_by_workflow[name]
            )
            for name in names
        ),
        ruled_out=ruled_out,
    )


def _without_choice(
    workflow: str, able: Sequence[str], reason: str, ruled_out: tuple[RuledOut, ...]
) -> WorkflowChoice:
    return WorkflowChoice(
        workflow=workflow,
        confidence=float(workflow in able),
        by="default",
        reason=reason,
        alternatives=tuple(RankedWorkflow(workflow=name, score=1.0) for name in able),
        ruled_out=ruled_out,
    )
