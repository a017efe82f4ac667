"""Owns what the system knows of itself: hears how requests end, and says what follows from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mm_orch.consciousness import mood as moods
from mm_orch.consciousness.mind_state import MindState
from mm_orch.consciousness.reporting import report_development, report_goals, report_memory
from mm_orch.consciousness.self_description import describe_self
from mm_orch.consciousness.self_model import make_self_model
from mm_orch.consciousness.self_question import find_topic, language_of
from mm_orch.consciousness.stages import describe_rule, find_stage_of, is_allowed
from mm_orch.core.effects import NO_ADVICE
from mm_orch.core.errors import RequestNotFoundError, WorkflowLockedError
from mm_orch.core.events import RequestFinished, RequestStatus
from mm_orch.core.mind_events import FeedbackTaken, MindMoved
from mm_orch.core.mind_report import MindReport, MoodReport
from mm_orch.core.workflow_events import WorkflowFinished
from mm_orch.orchestration.account import UNKNOWN
from mm_orch.orchestration.preparation import DEFAULT_TEMPERATURE
from mm_orch.storage.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mm_orch.consciousness.goals import Goals
    from mm_orch.consciousness.stages import StageRules
    from mm_orch.core.effects import Advice
    from mm_orch.core.events import Event, Observer
    from mm_orch.core.mind_report import SelfModel, WorkflowFacts
    from mm_orch.orchestration.reports import StatusReport
    from mm_orch.storage.outcomes import Kind, OutcomeStore

    FindStatus = Callable[[], StatusReport]
    FindWorkflows = Callable[[], Awaitable[Sequence[WorkflowFacts]]]

SELF_DESCRIPTION = "self_description"
"""The workflow that answers questions about the system itself."""
_EMBEDDING = "embeddings"
# That a request has ended is known a moment after its last word.
_FEEDBACK_PATIENCE_S = 0.5
# A refusal, or a caller that left, says nothing of how well the system does.
_IS_SUCCESS = {
    RequestStatus.SUCCESS.value: True,
    RequestStatus.ERROR.value: False,
    RequestStatus.TIMEOUT.value: False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MindSettings:
    """The slice of the configuration that the mind needs.

    Attributes:
        has_emotions: the mood changes how conversations are answered.
        max_temperature_offset: most that it adds to the default temperature, or takes from it.
        is_gating: workflows of later stages are refused.
    """

    goals: Goals
    rules: StageRules
    has_emotions: bool
    mood_half_life_s: float
    max_temperature_offset: float
    is_gating: bool
    memory_half_life_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Senses:
    """Where the mind gets its facts from.

    Attributes:
        find_status: of models, engines and load.
        find_workflows: those that are installed, available or broken.
        features: what may be switched off, and whether it is on.
        now: seconds since 1970.
    """

    find_status: FindStatus
    find_workflows: FindWorkflows
    features: Mapping[str, bool]
    now: Callable[[], float]


class Mind:
    """Implements core.events.Observer, core.mind_report.MindReports and workflows.advice.Advisor.

    Args:
        settings: from the configuration.
        senses: where facts come from.
        observer: told of what moves the mind; events of its own say nothing to it.
        store: of what is remembered; None keeps it for the life of the process.

    Attributes:
        state: mood, stage and memory.
    """

    def __init__(
        self,
        settings: MindSettings,
        senses: Senses,
        *,
        observer: Observer,
        store: OutcomeStore | None = None,
    ) -> None:
        self.state = MindState(
            rules=settings.rules,
            mood_half_life_s=settings.mood_half_life_s,
            memory_half_life_s=settings.memory_half_life_s,
            now=senses.now,
            is_kept=store is not None,
        )
        self._settings = settings
        self._senses = senses
        self._observer = observer
        self._store = store
        self._arrival = asyncio.Event()

    def observe(self, event: Event) -> None:
        """Learn how a request, or a run of a workflow, has ended."""
        match event:
            case RequestFinished() if event.operation != _EMBEDDING:
                self._note("generation", event, event.status.value)
            case WorkflowFinished():
                beliefs = event.belief_by_workflow
                self._note("run", event, event.status, event.confidence, beliefs)
            case _:
                pass

    def check(self, workflow: str, *, param: str) -> None:
        """See Advisor."""
        if reason := self._find_gate(workflow):
            raise WorkflowLockedError(
                f"The workflow {workflow} is not allowed yet: {reason}.",
                param=param,
                remedy="Set consciousness.development.enabled to false to allow every workflow.",
            )

    def is_unlocked(self, workflow: str) -> bool:
        """See Advisor."""
        return not self._find_gate(workflow)

    def advise(self, *, has_instructions: bool, has_temperature: bool) -> Advice:
        """See Advisor."""
        if not self._settings.has_emotions:
            return NO_ADVICE
        return moods.advise(
            self.state.mood,
            default_temperature=DEFAULT_TEMPERATURE,
            max_offset=self._settings.max_temperature_offset,
            has_instructions=has_instructions,
            has_temperature=has_temperature,
        )

    def find_workflow(self, question: str) -> str | None:
        """See Advisor."""
        return None if find_topic(question) is None else SELF_DESCRIPTION

    async def describe(self, question: str) -> str:
        """See Advisor."""
        topic = find_topic(question) or "abilities"
        return describe_self(await self._gather(), topic, language_of(question))

    async def report(self) -> MindReport:
        """See MindReports."""
        settings, state = self._settings, self.state
        return MindReport(
            self_model=await self._gather(),
            goals=report_goals(settings.goals),
            mood=self._report_mood(),
            development=report_development(
                state.development, settings.rules, is_gating=settings.is_gating
            ),
            memory=report_memory(
                state.memory,
                is_stored=self._store is not None,
                problem=(self._store.failure if self._store else None) or "",
            ),
        )

    async def take_feedback(self, caller: str, request_id: str, score: float) -> None:
        """See MindReports."""
        try:
            async with asyncio.timeout(_FEEDBACK_PATIENCE_S):
                while not self.state.rate(caller, request_id, score):
                    await self._arrival.wait()
        except TimeoutError:
            # Another server may have answered it, of those that keep what they remember together.
            if self._store is None or not await self._store.rate(caller, request_id, score):
                raise RequestNotFoundError(
                    f"No request {request_id!r} of yours is remembered.",
                    param="request_id",
                    remedy="Give the X-Request-ID of one that was answered or failed lately.",
                ) from None
        self._observer.observe(FeedbackTaken(score=score))
        self._tell_move()

    def _note(
        self,
        kind: Kind,
        event: RequestFinished | WorkflowFinished,
        status: str,
        confidence: float | None = None,
        belief_by_workflow: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        is_success = _IS_SUCCESS.get(status)
        if is_success is None:
            return
        self.state.note(
            Outcome(
                kind=kind,
                request_id=event.request_id,
                caller=event.caller,
                workflow=event.workflow,
                model="" if event.model == UNKNOWN else event.model,
                at_s=self._senses.now(),
                is_success=is_success,
                latency_s=event.total_s,
                num_tokens=event.num_prompt_tokens + event.num_generated_tokens,
                confidence=confidence,
                belief_by_workflow={
                    one: round(belief, 2) for one, belief in belief_by_workflow.items()
                },
            )
        )
        self._tell_move()
        # Whoever waits for one looks for its own; the next wait is for the next one.
        self._arrival.set()
        self._arrival = asyncio.Event()

    def _tell_move(self) -> None:
        mood, stage = self.state.mood, self.state.development.stage
        self._observer.observe(MindMoved(valence=mood.valence, arousal=mood.arousal, stage=stage))

    def _find_gate(self, workflow: str) -> str:
        """Say why a workflow is not allowed; empty where it is."""
        settings, development = self._settings, self.state.development
        if not settings.is_gating or is_allowed(workflow, development.stage, settings.rules):
            return ""
        stage = find_stage_of(workflow, settings.rules)
        if stage is None:
            return "no stage of consciousness.development.stages allows it"
        return (
            f"it is of stage {stage}, and the system is at stage {development.stage};"
            f" the next stage needs {describe_rule(development, settings.rules)}"
        )

    def _report_mood(self) -> MoodReport:
        mood, settings = self.state.mood, self._settings
        return MoodReport(
            valence=mood.valence,
            arousal=mood.arousal,
            half_life_s=settings.mood_half_life_s,
            has_effects=settings.has_emotions,
            instruction=moods.find_instruction(mood),
            temperature_offset=moods.find_temperature_offset(mood, settings.max_temperature_offset),
        )

    async def _gather(self) -> SelfModel:
        senses = self._senses
        return make_self_model(
            senses.find_status(),
            await senses.find_workflows(),
            features=senses.features,
            find_gate=self._find_gate,
        )
