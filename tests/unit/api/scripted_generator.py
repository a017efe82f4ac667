"""A generator that plays a script, and reports that say what a test wants: the API's neighbours."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.core.fallback import Failover
from mm_orch.core.generation import FinishReason, TextDelta, TextLogprob, Usage
from mm_orch.core.routing import AUTO, NOTHING_CHOSEN, ModelChoice, Routing
from mm_orch.core.tools import ToolCallDelta
from mm_orch.optimization.engines.contract import Availability
from mm_orch.orchestration.reports import (
    HealthReport,
    HealthStatus,
    ModelReport,
    ReadyReport,
    StatusReport,
)
from mm_orch.orchestration.ticket import Ticket
from mm_orch.routing.router import Router
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from mm_orch.core.events import Event, HttpRequestFinished
    from mm_orch.core.fallback import Fallback
    from mm_orch.core.generation import GenerationRequest


ROUTER = Router({"small": ("tiny", "org/small"), "large": ()}, "small")


class HoldOn:
    """A step of a script that never ends by itself."""


HOLD = HoldOn()
Step = TextDelta | Exception | HoldOn | Failover


def say(*texts: str, index: int = 0, reason: FinishReason = FinishReason.STOP) -> list[Step]:
    """Script one choice: a delta a text, then the end."""
    deltas: list[Step] = [TextDelta(index=index, text=text, num_tokens=1) for text in texts]
    return [*deltas, TextDelta(index=index, text="", num_tokens=0, finish_reason=reason)]


def call(
    name: str, *arguments: str, number: int = 0, index: int = 0, call_id: str = "call_1"
) -> list[Step]:
    """Script one call of a function: its name, then its arguments in pieces; no end."""
    news = [ToolCallDelta(index=number, id=call_id, name=name)]
    news += [ToolCallDelta(index=number, arguments=piece) for piece in arguments]
    return [TextDelta(index=index, text="", num_tokens=1, tool_calls=(one,)) for one in news]


def think(*texts: str, index: int = 0) -> list[Step]:
    """Script thoughts, a delta a text; no end."""
    return [
        TextDelta(index=index, text="", num_tokens=1, reasoning=text, num_reasoning_tokens=1)
        for text in texts
    ]


def tell(token: str, logprob: float, *others: tuple[str, float]) -> TextLogprob:
    return TextLogprob(
        token=token,
        token_bytes=token.encode(),
        logprob=logprob,
        top=tuple((text, text.encode(), value) for text, value in others),
    )


class ScriptedGeneration:
    def __init__(
        self,
        request: GenerationRequest,
        model: str,
        script: Sequence[Step],
        fallback: Fallback | None = None,
        routing: Routing = NOTHING_CHOSEN,
    ) -> None:
        self.request_id = request.request_id
        self.model = model
        self.engine = "scripted"
        self.fallback = fallback
        self.failovers: list[Failover] = []
        self.routing = routing
        self._script = script
        self._num_generated = 0
        self._num_reasoning = 0

    @property
    def usage(self) -> Usage:
        return Usage(
            num_prompt_tokens=7,
            num_generated_tokens=self._num_generated,
            num_cached_tokens=3,
            num_reasoning_tokens=self._num_reasoning,
        )

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        for step in self._script:
            # As a real generation does, so that everything else gets its turn.
            await asyncio.sleep(0)
            match step:
                case TextDelta():
                    self._num_generated += step.num_tokens
                    self._num_reasoning += step.num_reasoning_tokens
                    yield step
                case HoldOn():
                    await asyncio.Event().wait()
                case Failover():
                    self.failovers.append(step)
                case Exception():
                    raise step


@dataclass
class ScriptedGenerator:
    """Plays ``script`` to every request; without one, it says "Hello world" for each choice.

    Attributes:
        refusal: raised instead of opening.
        scripts: one a request, in order, over ``script``.
        requests: all that were asked for.
        runs: what stood for each run of a workflow.
        released: conversations whose memory was given up.
        fallback: why another engine answers than the preferred one.
        on_open: called whenever one is opened, in the task that does it.
        num_open: generations that nobody has closed.
        has_emptied: set whenever the last open one is closed.
    """

    script: Sequence[Step] | None = None
    refusal: Exception | None = None
    scripts: Sequence[Sequence[Step]] = ()
    requests: list[GenerationRequest] = field(default_factory=list)
    runs: list[GenerationRequest] = field(default_factory=list)
    num_open: int = 0
    has_opened: asyncio.Event = field(default_factory=asyncio.Event)
    has_emptied: asyncio.Event = field(default_factory=asyncio.Event)
    router: Router = ROUTER
    released: list[str] = field(default_factory=list)
    fallback: Fallback | None = None
    on_open: Callable[[], None] = lambda: None

    def release_conversation(self, conversation_id: str) -> None:
        self.released.append(conversation_id)

    def choose_model(self, _request: GenerationRequest) -> ModelChoice:
        """The one that a request for auto is answered by."""
        return ModelChoice(model="small", by="only", reason="There is no other.")

    @contextmanager
    def enter_run(self, request: GenerationRequest) -> Iterator[Ticket]:
        self.runs.append(request)
        if self.refusal is not None:
            raise self.refusal
        yield Ticket(self.router.choose(request.model), 0.0)

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[ScriptedGeneration]:
        script = self._script_for(request)
        self.requests.append(request)
        choice = self.choose_model(request) if request.model == AUTO else None
        model = self.router.choose(choice.model if choice else request.model)
        if self.refusal is not None:
            raise self.refusal
        self.num_open += 1
        self.on_open()
        self.has_opened.set()
        try:
            yield ScriptedGeneration(request, model, script, self.fallback, Routing(model=choice))
        finally:
            self.num_open -= 1
            if self.num_open == 0:
                self.has_emptied.set()

    def _script_for(self, request: GenerationRequest) -> Sequence[Step]:
        if self.scripts:
            return self.scripts[len(self.requests)]
        if self.script is not None:
            return self.script
        return [
            step
            for index in range(request.options.num_choices)
            for step in say("Hello", " world", index=index)
        ]


@dataclass
class ScriptedLoader:
    """Keeps what it is told; ``refusal`` is raised instead."""

    refusal: Exception | None = None
    calls: list[tuple[str, str, bool]] = field(default_factory=list)

    async def load_model(self, model: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("load", model, False))

    async def unload_model(self, model: str, *, is_forced: bool = False) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("unload", model, is_forced))

    def drain_model(self, model: str) -> None:
        self.calls.append(("drain", model, False))

    def resume_model(self, model: str) -> None:
        self.calls.append(("resume", model, False))

    def begin_drain(self) -> None:
        self.calls.append(("drain", "", False))

    def end_drain(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("resume", "", False))


def model_report(name: str, phase: ModelPhase = ModelPhase.READY, detail: str = "") -> ModelReport:
    aliases = {"small": ("tiny", "org/small")}.get(name, ())
    return ModelReport(
        name=name, aliases=aliases, source="somewhere", phase=phase, engine="echo", detail=detail
    )


@dataclass
class ScriptedReports:
    health_status: HealthStatus = HealthStatus.HEALTHY
    reasons: tuple[str, ...] = ()
    not_ready_because: str = ""
    models: tuple[ModelReport, ...] = (
        model_report("small"),
        model_report("large", ModelPhase.LOADING, "reading weights: 40 %"),
    )

    def health(self) -> HealthReport:
        return HealthReport(
            status=self.health_status,
            degradation_reasons=self.reasons,
            uptime_seconds=1.5,
            models_loaded=("small",),
            engines_available=("echo",),
            engines=(Availability(engine="echo", is_available=True),),
            queue_size=2,
            queue_capacity=100,
            version="0.1.0",
        )

    def ready(self) -> ReadyReport:
        return ReadyReport(is_ready=not self.not_ready_because, reason=self.not_ready_because)

    def status(self) -> StatusReport:
        return StatusReport(
            health=self.health(),
            is_ready=not self.not_ready_because,
            not_ready_because=self.not_ready_because,
            engines=(Availability(engine="echo", is_available=True),),
            models=self.models,
            default_model="small",
            num_running=1,
            num_waiting=2,
            is_draining=False,
            requests_per_second=0.5,
            alerts=(),
            tuner=None,
        )


class EventList:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def exchanges(self) -> Iterator[HttpRequestFinished]:
        from mm_orch.core.events import HttpRequestFinished

        return (event for event in self.events if isinstance(event, HttpRequestFinished))
