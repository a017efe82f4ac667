"""Puts the workflows together from what the composition root has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.search.service import Search
from mm_orch.search.settings import read_settings
from mm_orch.workflows.routes import RoutingSources, WorkflowRoutes
from mm_orch.workflows.running import Workflows
from mm_orch.workflows.settings import make_routing_settings, make_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.config import Config
    from mm_orch.consciousness.mind import Mind
    from mm_orch.consciousness.outcome_statistics import PastOutcomes
    from mm_orch.orchestration.embedding import EmbeddingOrchestrator
    from mm_orch.orchestration.orchestrator import Orchestrator
    from mm_orch.storage.stores import Stores
    from mm_orch.workflows.account import Watch
    from mm_orch.workflows.registry import WorkflowRegistry


def make_workflows(
    config: Config,
    registry: WorkflowRegistry,
    orchestrator: Orchestrator,
    embedder: EmbeddingOrchestrator,
    stores: Stores,
    sources: RoutingSources,
    *,
    watch: Watch,
) -> Workflows:
    """Return what runs the workflows of the registry."""
    return Workflows(
        registry,
        routes=WorkflowRoutes(registry, make_routing_settings(config), sources),
        generator=orchestrator,
        meters=orchestrator,
        sessions=stores.sessions,
        documents=stores.documents,
        embedder=embedder,
        search=Search(read_settings(config.workflows.search)),
        settings=make_settings(config),
        watch=watch,
        advisor=sources.advisor,
    )


def make_sources(
    stores: Stores,
    past: PastOutcomes,
    biases: Callable[[], Mapping[str, float]],
    mind: Mind | None,
) -> RoutingSources:
    """Return what the choice of a workflow goes by beside the query."""
    return RoutingSources(
        has_documents=stores.documents.has_documents,
        past_by_workflow=past.outcomes_by_workflow,
        bias_by_workflow=biases,
        advisor=mind,
    )
