"""The facts that workflows state; see ``core.events``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.routing import Routing
    from mm_orch.core.trace import TraceContext


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRouted:
    """What a call of a workflow left open was chosen: the workflow, the model, or both.

    Attributes:
        workflow: that is going to answer, chosen or named.
        begin_s: a reading of the monotonic clock.
        duration_s: what choosing took, the look at what can run included.
        trace: its own span, or None.
        parent_span_id: of the request's span.
    """

    request_id: str
    workflow: str
    routing: Routing
    begin_s: float
    duration_s: float
    trace: TraceContext | None = None
    parent_span_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowStepFinished:
    """A step of a workflow has ended, failed for good, or was ended before.

    Attributes:
        outcome: ended, failed or cancelled.
        begin_s: a reading of the monotonic clock.
        trace: its own span, or None.
        parent_span_id: of the request's span.
        error_type: class name of what it failed of; or empty.
        message: of that, for people.
    """

    request_id: str
    workflow: str
    step: str
    outcome: str
    begin_s: float
    duration_s: float
    num_attempts: int
    trace: TraceContext | None = None
    parent_span_id: int = 0
    error_type: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFinished:
    """A run of a workflow has ended, one way or another; stated exactly once for each run.

    Attributes:
        status: as RequestStatus spells it.
        is_partial: it ended well, without some of its steps.
        total_s: from the call to the end.
        ttft_s: to the first piece of the answer, or None when there was none.
        num_prompt_tokens: of everything that it had models generate, as the other counts.
        error_type: class name of the error, or None.
        caller: name of the key that it belongs to; no label of a metric.
        model: that answered last; empty where none did.
        confidence: of the answer, where the workflow measures it.
        belief_by_workflow: in each that could have been chosen, by the query alone, 0 to 1; empty
            where the call named one.
    """

    request_id: str
    workflow: str
    status: str
    is_partial: bool
    total_s: float
    ttft_s: float | None = None
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_cached_tokens: int = 0
    error_type: str | None = None
    caller: str = ""
    model: str = ""
    confidence: float | None = None
    belief_by_workflow: Mapping[str, float] = field(default_factory=dict)


WorkflowEvent = WorkflowRouted | WorkflowStepFinished | WorkflowFinished
