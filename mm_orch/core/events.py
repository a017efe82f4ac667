"""The facts that the request path states; monitoring turns them into series and spans.

The path calls one :class:`Observer`. It never imports monitoring.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)


class RequestStatus(enum.Enum):
    """How a request ended, as the metrics name it."""

    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted:
    """The request's first step has run: its wait in the queue is over."""

    request_id: str
    model: str
    engine: str
    queue_wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokenProduced:
    """The first token of a request has reached the server, ``ttft_s`` after admission."""

    request_id: str
    model: str
    engine: str
    ttft_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGap:
    """Time between two successive chunks of one sequence, divided by the tokens in it."""

    model: str
    engine: str
    seconds_per_token: float
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished:
    """A request has ended, one way or another; stated exactly once for each request.

    Attributes:
        status: how it ended.
        error_type: class name of the error, or None.
        queue_wait_s: admission to first step, or None when it never ran.
        ttft_s: admission to first token, or None when there was none.
        total_s: admission to end.
        finish_reasons: one a choice that finished.
    """

    request_id: str
    model: str
    engine: str
    status: RequestStatus
    total_s: float
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    queue_wait_s: float | None = None
    ttft_s: float | None = None
    error_type: str | None = None
    finish_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadChanged:
    """How many requests of a model run and wait now."""

    model: str
    num_running: int
    num_waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCompleted:
    """A worker has advanced a batch once. ``phase`` is prefill, decode, mixed or embed."""

    model: str
    engine: str
    phase: str
    batch_size: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStateChanged:
    """A model's worker has come up or gone down; ``reason`` is for people."""

    model: str
    engine: str
    is_up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRestarted:
    """A worker that had died is being started again."""

    model: str
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoaded:
    """A model is ready to answer, ``duration_s`` after its worker was started."""

    model: str
    engine: str
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnloaded:
    """A model has left the memory; ``reason`` is for people."""

    model: str
    engine: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitChanged:
    """An engine may be used with a model (closed), may be tried (half_open) or not (open)."""

    model: str
    engine: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFellBack:
    """A model runs on another engine than the preferred one; ``reason`` is for people."""

    model: str
    from_engine: str
    to_engine: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailedOver:
    """A request whose engine was lost goes on with another worker.

    Attributes:
        num_delivered_tokens: what its client had got, over all choices.
        reason: for people.
    """

    request_id: str
    model: str
    from_engine: str
    to_engine: str
    num_delivered_tokens: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRedirected:
    """A request asks for what the model's engine cannot do, so another one beside it answers."""

    request_id: str
    model: str
    from_engine: str
    to_engine: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOccurred:
    """Something failed in a component; ``error_type`` is an exception class name."""

    component: str
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequestFinished:
    """An HTTP exchange has ended. ``route`` is the path template, never the raw path."""

    route: str
    method: str
    status: int
    duration_s: float


Event = (
    RequestStarted
    | FirstTokenProduced
    | TokenGap
    | RequestFinished
    | LoadChanged
    | StepCompleted
    | WorkerStateChanged
    | WorkerRestarted
    | ModelLoaded
    | ModelUnloaded
    | CircuitChanged
    | EngineFellBack
    | RequestFailedOver
    | RequestRedirected
    | ErrorOccurred
    | HttpRequestFinished
)


class Observer(Protocol):
    """Receives every event, on the server's event loop; must return at once and never raise."""

    def observe(self, event: Event) -> None:
        """Take one fact."""


class ObserverFanOut:
    """Hands each event to every observer; one that fails is logged and never hurts the path."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def observe(self, event: Event) -> None:
        """Give the event to all observers in order."""
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception:  # boundary: monitoring never fails a request
                logger.exception("observer %s failed on %s", observer, type(event).__name__)
