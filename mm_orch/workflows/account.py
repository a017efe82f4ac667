"""What one run has cost and how it ended: places its steps in the trace, and states its events."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.trace import CURRENT
from mm_orch.core.workflow_events import (
    WorkflowFinished,
    WorkflowRouted,
    WorkflowStepFinished,
)
from mm_orch.orchestration.account import status_of
from mm_orch.workflows.contract import ANSWER, CONFIDENCE
from mm_orch.workflows.graph_progress import AnswerPiece, StepEnded, StepFailed, StepStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.core.routing import Routing
    from mm_orch.core.trace import TraceContext
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.generating import RunModels
    from mm_orch.workflows.graph_progress import Progress
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.graph_state import Values

    StartTrace = Callable[[TraceContext | None], TraceContext]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of runs.

    Attributes:
        observer: of their events.
        clock: of their times.
        start_trace: gives the place of a new span below another; None with tracing off.
    """

    observer: Observer
    clock: Clock
    start_trace: StartTrace | None = None

    def tell_routing(
        self, call: WorkflowCall, workflow: str, routing: Routing, begin_s: float
    ) -> None:
        """State what was chosen for a call since then."""
        parent = CURRENT.get()
        self.observer.observe(
            WorkflowRouted(
                request_id=call.request_id,
                workflow=workflow,
                routing=routing,
                begin_s=begin_s,
                duration_s=self.clock() - begin_s,
                trace=self.start_span(parent),
                parent_span_id=0 if parent is None else parent.span_id,
            )
        )

    def start_span(self, parent: TraceContext | None) -> TraceContext | None:
        """Return the place of a new span below another; None where there is no trace."""
        if self.start_trace is None or parent is None:
            return None
        return self.start_trace(parent)


@dataclass(slots=True)
class _OpenStep:
    begin_s: float
    trace: TraceContext | None
    num_attempts: int = 1


class WorkflowAccount:
    """The account of one run; states exactly one WorkflowFinished, when :meth:`finish` is called.

    Args:
        workflow: its name.
        call: that the run answers.
        models: what it had them generate.
        routing: what was chosen for the call.
        watch: who is told.
    """

    def __init__(
        self,
        workflow: str,
        call: WorkflowCall,
        models: RunModels,
        *,
        routing: Routing,
        watch: Watch,
    ) -> None:
        self._workflow = workflow
        self._call = call
        self._models = models
        self._choice = routing.workflow
        self._watch = watch
        self._trace = CURRENT.get()
        self._begin_s = watch.clock()
        self._ttft_s: float | None = None
        self._open_steps: dict[str, _OpenStep] = {}

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Bound what is done before the first step: what ends the call here is its end."""
        try:
            yield
        except BaseException as error:
            self.finish(error)
            raise

    def finish(self, error: BaseException | None, outcome: Outcome | None = None) -> None:
        """State the end: what it failed of, or what has come of it; neither is a run cut off."""
        for step in list(self._open_steps):
            self._close(step, "cancelled")
        usage, last = self._models.usage, self._models.last
        values = None if outcome is None else outcome.values
        self._watch.observer.observe(
            WorkflowFinished(
                request_id=self._call.request_id,
                workflow=self._workflow,
                status=status_of(
                    error,
                    is_complete=outcome is not None,
                    has_run=last is not None,
                ).value,
                is_partial=outcome is not None and outcome.is_partial,
                total_s=self._watch.clock() - self._begin_s,
                ttft_s=self._ttft_s,
                num_prompt_tokens=usage.num_prompt_tokens,
                num_generated_tokens=usage.num_generated_tokens,
                num_cached_tokens=usage.num_cached_tokens,
                error_type=None if error is None else type(error).__name__,
                caller=self._call.caller,
                model="" if last is None else last.model,
                confidence=None if values is None else _find_confidence(values),
                belief_by_workflow=self._choice.belief_by_workflow if self._choice else {},
            )
        )

    def note(self, event: Progress) -> None:
        """Take what happens; called in the task of the step that it happens to.

        From its begin on, whatever a step has done stands below its own span.
        """
        match event:
            case StepStarted():
                self._open_steps[event.step] = _OpenStep(event.begin_s, self._enter_span())
            case StepEnded():
                self._close(event.step, "ended", event.num_attempts)
            case StepFailed(will_retry=False):
                self._close(
                    event.step,
                    "failed",
                    event.num_attempts,
                    type(event.error).__name__,
                    str(event.error),
                )
            case StepFailed():
                self._open_steps[event.step].num_attempts = event.num_attempts + 1
            case AnswerPiece() if self._ttft_s is None:
                self._ttft_s = self._watch.clock() - self._begin_s
            case _:
                pass

    def _enter_span(self) -> TraceContext | None:
        own = self._watch.start_span(self._trace)
        if own is not None:
            CURRENT.set(own)
        return own

    def _close(
        self,
        step: str,
        outcome: str,
        num_attempts: int | None = None,
        error_type: str = "",
        message: str = "",
    ) -> None:
        opened = self._open_steps.pop(step)
        self._watch.observer.observe(
            WorkflowStepFinished(
                request_id=self._call.request_id,
                workflow=self._workflow,
                step=step,
                outcome=outcome,
                begin_s=opened.begin_s,
                duration_s=self._watch.clock() - opened.begin_s,
                num_attempts=num_attempts or opened.num_attempts,
                trace=opened.trace,
                parent_span_id=0 if self._trace is None else self._trace.span_id,
                error_type=error_type,
                message=message,
            )
        )


def _find_confidence(values: Values) -> float | None:
    """Return what is told with the answer: the answer's own, else the workflow's."""
    answer = values.find(ANSWER)
    gauged = None if answer is None else answer.confidence
    return values.find(CONFIDENCE) if gauged is None else gauged.value
