"""One admitted request while it runs: yields text, counts tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.routing import NOTHING_CHOSEN, Routing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from mm_orch.core.embedding import EmbeddingRequest
    from mm_orch.core.fallback import Failover, Fallback
    from mm_orch.core.generation import GenerationRequest, Message, TextDelta, Usage
    from mm_orch.core.routing import ModelChoice
    from mm_orch.orchestration.reports import HealthReport, ReadyReport, StatusReport
    from mm_orch.orchestration.ticket import Ticket


class Answered(Protocol):
    """Who answers a request, and what it took to get there."""

    @property
    def model(self) -> str:
        """The configured name of the model."""

    @property
    def engine(self) -> str:
        """The engine that answers now."""

    @property
    def failovers(self) -> Sequence[Failover]:
        """What became of workers that were lost while they answered it."""

    @property
    def fallback(self) -> Fallback | None:
        """Why the model runs on another engine than the preferred one, where it does."""

    @property
    def routing(self) -> Routing:
        """What was chosen for it, of what it left open."""


class Generation(Answered, Protocol):
    """What the faces (HTTP, command line, Python) see of a running request.

    Iterating yields deltas of all choices as they come, each choice's last with its finish
    reason, and raises DeadlineError or EngineError when the request cannot be completed.
    ``usage`` is right at any time and final when iteration has ended.
    """

    request_id: str

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


class RunEntrance(Protocol):
    """Lets runs of workflows in."""

    def enter_run(self, request: GenerationRequest) -> AbstractContextManager[Ticket]:
        """Hold a place for a run until this is left; it is ``RUN`` for what the run asks for.

        Nothing of it is refused afterwards for the queue's sake, and a drain waits for it.

        Args:
            request: stands for all that the run may ask for.

        Raises:
            RequestError: there is no such model, or it does not generate.
            OverloadError: the queue is full, the server or the model drains.
        """


class ChoosesModels(Protocol):
    """Knows which model a request for ``auto`` is best answered by."""

    def choose_model(self, request: GenerationRequest) -> ModelChoice:
        """Return the choice; asks nothing that takes long, and always finds one."""


class RunGenerator(Generator, RunEntrance, ChoosesModels, Protocol):
    """Takes requests, and whole runs."""


class Meter(Protocol):
    """Says what a conversation takes of one model's context."""

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and answer together, or None where that is not known."""

    def count(self, messages: Sequence[Message]) -> int:
        """Return the tokens of the prompt that these make; computes, so not on the event loop.

        Of a model on a server elsewhere they are guessed.

        Raises:
            UnsupportedError: the model takes no conversations.
            InvalidValueError: its template refuses the messages.
        """


class Meters(Protocol):
    """Knows the models' tokenisers."""

    async def find_meter(self, model: str | None) -> Meter:
        """Return the meter of a model by name or alias; one that is run here begins to load.

        Raises:
            ModelNotFoundError, InvalidValueError: no model that generates has this name.
            ModelUnavailableError: its files cannot be had now.
        """


class TextMeter(Protocol):
    """Says what a text takes of an embedding model's context."""

    @property
    def model(self) -> str:
        """The configured name of the model."""

    @property
    def context_length(self) -> int:
        """Most tokens of a text."""

    def count(self, text: str) -> int:
        """Return the tokens of a text; computes, so not on the event loop.

        Raises:
            InvalidValueError: it holds what is no text.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """The vectors of some texts.

    Attributes:
        vectors: [number of texts, dimensions], in the order of the texts.
        model: the configured name of the model that made them.
        engine: the engine that ran it.
        num_tokens: of all texts.
        failovers: workers that were lost before.
        fallback: why it is not the preferred engine.
        routing: nothing: a request to embed names its model.
    """

    vectors: NDArray[np.float32]
    model: str
    engine: str
    num_tokens: int
    failovers: tuple[Failover, ...] = ()
    fallback: Fallback | None = None
    routing: Routing = NOTHING_CHOSEN


class Embedder(Protocol):
    """Takes requests to embed texts."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the vectors of the request's texts; cancelling stops the work.

        Raises:
            RequestError, OverloadError, DeadlineError, EngineError
        """


class MeasuringEmbedder(Embedder, Protocol):
    """Says beforehand how long texts are."""

    async def find_meter(self, model: str | None) -> TextMeter:
        """Return the meter of an embedding model by name or alias; it begins to load.

        Raises:
            ModelNotFoundError, UnsupportedError: no model that embeds has this name.
            ModelUnavailableError: its files cannot be had now.
        """


class ModelLoader(Protocol):
    """Loads and unloads models when told to."""

    async def load_model(self, model: str) -> None:
        """Load a model and wait until it is ready.

        Raises:
            OverloadError, DeadlineError: it cannot be loaded now.
        """

    async def unload_model(self, model: str, *, is_forced: bool = False) -> None:
        """Free a model's memory; the next request for it loads it again.

        Args:
            model: its configured name.
            is_forced: break off the requests that it has.

        Raises:
            ModelBusyError: it answers requests, and this was not forced.
        """

    def drain_model(self, model: str) -> None:
        """Refuse new requests for one model until it is resumed; those admitted go on."""

    def resume_model(self, model: str) -> None:
        """Let a model take requests again."""

    def begin_drain(self) -> None:
        """Refuse new requests for any model until it is undone; those admitted go on."""

    def end_drain(self) -> None:
        """Take requests again.

        Raises:
            DrainingError: the server is going to stop.
        """


class SystemReports(Protocol):
    """Answers questions about the system's state, at once and without waiting."""

    def health(self) -> HealthReport:
        """Whether the whole is healthy, and why not."""

    def ready(self) -> ReadyReport:
        """Whether a request sent now would be served."""

    def status(self) -> StatusReport:
        """Everything known about engines, models and load."""
