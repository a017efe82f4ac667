"""Workflows with scripted models, a meter that counts words, and whatever store a test brings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.observers import ObserverFanOut
from mm_orch.orchestration.measuring import GuessingMeter
from mm_orch.workflows.account import Watch
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.routes import RoutingSettings, RoutingSources, WorkflowRoutes
from mm_orch.workflows.running import Workflows, WorkflowSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.generation import RunGenerator
    from mm_orch.storage.sessions import SessionStore


@dataclass(frozen=True)
class WordMeter:
    """A token a word, and one around each message."""

    context_length: int | None = 1000

    def count(self, messages: Sequence[Message]) -> int:
        return sum(1 + len(message.content.split()) for message in messages)


class WordMeters:
    """One for every model but ``far``, which is a server elsewhere."""

    async def find_meter(self, model: str | None) -> WordMeter | GuessingMeter:
        return GuessingMeter(None) if model == "far" else WordMeter()


def make_workflows(
    generator: RunGenerator,
    sessions: SessionStore,
    settings: WorkflowSettings | None = None,
    *,
    registry: WorkflowRegistry | None = None,
    watch: Watch | None = None,
    routing: RoutingSettings | None = None,
    sources: RoutingSources | None = None,
) -> Workflows:
    registry = registry or WorkflowRegistry()
    return Workflows(
        registry,
        routes=WorkflowRoutes(registry, routing or RoutingSettings(), sources or RoutingSources()),
        generator=generator,
        meters=WordMeters(),
        sessions=sessions,
        settings=settings or WorkflowSettings(),
        watch=watch or Watch(ObserverFanOut(), time.monotonic),
    )
