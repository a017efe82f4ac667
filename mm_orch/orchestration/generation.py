"""One admitted request while it runs: yields text, counts tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from mm_orch.core.generation import GenerationRequest, TextDelta, Usage
    from mm_orch.optimization.supervisor import Fallback
    from mm_orch.orchestration.failover import Failover
    from mm_orch.orchestration.reports import HealthReport, ReadyReport, StatusReport


class Generation(Protocol):
    """What the faces (HTTP, command line, Python) see of a running request.

    Iterating yields deltas of all choices as they come, each choice's last with its finish
    reason, and raises DeadlineError or EngineError when the request cannot be completed.
    ``usage`` is right at any time and final when iteration has ended.
    """

    request_id: str
    model: str

    @property
    def failovers(self) -> Sequence[Failover]:
        """What became of workers that were lost while they answered it."""

    @property
    def fallback(self) -> Fallback | None:
        """Why the model runs on another engine than the preferred one, where it does."""

    @property
    def engine(self) -> str:
        """The engine that answers now."""

    def __aiter__(self) -> AsyncIterator[TextDelta]: ...

    @property
    def usage(self) -> Usage:
        """Tokens so far."""


class Generator(Protocol):
    """Takes requests: the orchestrator, seen from a face."""

    def open(self, request: GenerationRequest) -> AbstractAsyncContextManager[Generation]:
        """Admit, prepare and start a request; leaving the context before its end cancels it.

        Raises:
            RequestError, OverloadError, DeadlineError, EngineError: on entering.
        """

    def release_conversation(self, conversation_id: str) -> None:
        """Free the KV blocks that only this conversation needs; an unknown one has none."""


class ModelLoader(Protocol):
    """Loads and unloads models when told to."""

    async def load_model(self, model: str) -> None:
        """Load a model and wait until it is ready.

        Raises:
            OverloadError, DeadlineError: it cannot be loaded now.
        """

    async def unload_model(self, model: str, *, is_forced: bool = False) -> None:
        """Free a model's memory; the next request for it loads it again.

        Raises:
            ModelBusyError: it answers requests, and this was not forced.
        """


class SystemReports(Protocol):
    """Answers questions about the system's state, at once and without waiting."""

    def health(self) -> HealthReport:
        """Whether the whole is healthy, and why not."""

    def ready(self) -> ReadyReport:
        """Whether a request sent now would be served."""

    def status(self) -> StatusReport:
        """Everything known about engines, models and load."""
