"""Which spans a finished request has: names, bounds, attributes, and where its error stands.

    request                 begin_s .. + duration_s                   of the HTTP exchange
    |-- route               begin_s .. routed_s
    |-- queue               begin_s .. + queue_wait_s
    `-- inference           first submitted_s .. begin_s + total_s
        |-- prefill         started_s .. first_token_s                one an attempt
        `-- decode          first_token_s .. ended_s                  one an attempt

The wait in the queue is counted from admission, as the metric ``queue_wait_seconds`` counts it: so
``queue`` begins together with ``route`` and lasts exactly as long as the metric says.
What ended a request badly stands on the last of route, queue and inference that it came to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from mm_orch.core.events import RequestStatus
from mm_orch.monitoring.tracing import conventions as names
from mm_orch.monitoring.tracing.content import encodable, input_messages, output_messages
from mm_orch.monitoring.tracing.epoch import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.core.events import Attempt, RequestFinished
    from mm_orch.core.routing import ModelChoice, WorkflowChoice
    from mm_orch.core.workflow_events import WorkflowRouted, WorkflowStepFinished

Attributes = dict[str, "str | int | float | Sequence[str]"]

# That a client leaves is no error.
_FAILED = {RequestStatus.ERROR, RequestStatus.TIMEOUT, RequestStatus.REJECTED}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened within a span."""

    name: str
    at_ns: int
    attributes: Attributes


@dataclass(slots=True, kw_only=True)
class Draft:
    """A span without its identity; times are nanoseconds since 1970.

    Attributes:
        failure: what it failed of, for people; None where it did not.
        parts: its children.
    """

    name: str
    begin_ns: int
    end_ns: int
    attributes: Attributes
    moments: list[Moment] = field(default_factory=list)
    failure: str | None = None
    parts: list[Draft] = field(default_factory=list)


def draft_request(event: RequestFinished, ns_of: Callable[[float], int]) -> list[Draft]:
    """Return the spans below ``request``, in order.

    Args:
        event: the end of a request.
        ns_of: tells the wall time of a reading of the monotonic clock.
    """
    begin_ns = ns_of(event.begin_s)
    end_ns = begin_ns + nanoseconds(event.total_s)
    drafts = [_draft_route(event, begin_ns, end_ns, ns_of)]
    if event.routed_s is not None or event.queue_wait_s is not None:
        drafts.append(_draft_queue(event, begin_ns, end_ns))
    if event.attempts:
        drafts.append(_draft_inference(event, end_ns, ns_of))
    _add_failure(drafts[-1], event)
    return drafts


def draft_step(event: WorkflowStepFinished, ns_of: Callable[[float], int]) -> Draft:
    """Return the span of a workflow's step."""
    begin_ns = ns_of(event.begin_s)
    draft = Draft(
        name=f"{names.STEP} {event.step}",
        begin_ns=begin_ns,
        end_ns=begin_ns + nanoseconds(event.duration_s),
        attributes={
            names.REQUEST_ID: event.request_id,
            names.WORKFLOW_NAME: event.workflow,
            names.STEP_NAME: event.step,
            names.STEP_OUTCOME: event.outcome,
            names.STEP_ATTEMPTS: event.num_attempts,
        },
    )
    if event.error_type:
        draft.failure = encodable(event.message)
        draft.attributes[names.ERROR_TYPE] = event.error_type
    return draft


def draft_routing(event: WorkflowRouted, ns_of: Callable[[float], int]) -> Draft:
    """Return the span of the choice of a workflow, and of the model for its run."""
    begin_ns, workflow, model = ns_of(event.begin_s), event.routing.workflow, event.routing.model
    attributes: Attributes = {
        names.REQUEST_ID: event.request_id,
        names.WORKFLOW_NAME: event.workflow,
    }
    if workflow is not None:
        scores = [(one.workflow, one.score) for one in workflow.alternatives]
        attributes |= _describe_choice(names.WORKFLOW_CHOICE, workflow, scores)
        attributes[names.CONFIDENCE] = workflow.confidence
    if model is not None:
        attributes[names.MODEL] = model.model
        attributes |= _describe_model_choice(model)
    return Draft(
        name=names.WORKFLOW_ROUTE,
        begin_ns=begin_ns,
        end_ns=begin_ns + nanoseconds(event.duration_s),
        attributes=attributes,
    )


def _describe_model_choice(choice: ModelChoice) -> Attributes:
    scores = [(one.model, one.score) for one in choice.alternatives]
    return _describe_choice(names.MODEL_CHOICE, choice, scores)


def _describe_choice(
    prefix: str, choice: WorkflowChoice | ModelChoice, scores: Sequence[tuple[str, float]]
) -> Attributes:
    return {
        f"{prefix}.by": choice.by,
        f"{prefix}.reason": encodable(choice.reason),
        f"{prefix}.alternatives": [f"{name}: {score:.3f}" for name, score in scores],
        f"{prefix}.ruled_out": [encodable(f"{one.name}: {one.reason}") for one in choice.ruled_out],
    }


def _draft_route(
    event: RequestFinished, begin_ns: int, end_ns: int, ns_of: Callable[[float], int]
) -> Draft:
    attributes: Attributes = {names.REQUEST_ID: event.request_id, names.MODEL: event.model}
    if event.choice is not None:
        attributes |= _describe_model_choice(event.choice)
    return Draft(
        name=names.ROUTE,
        begin_ns=begin_ns,
        end_ns=end_ns if event.routed_s is None else ns_of(event.routed_s),
        attributes=attributes,
    )


def _draft_queue(event: RequestFinished, begin_ns: int, end_ns: int) -> Draft:
    wait_s = event.queue_wait_s
    return Draft(
        name=names.QUEUE,
        begin_ns=begin_ns,
        end_ns=end_ns if wait_s is None else begin_ns + nanoseconds(wait_s),
        attributes={
            names.REQUEST_ID: event.request_id,
            names.MODEL: event.model,
            names.NUM_WAITING: event.num_waiting_before,
            names.NUM_RUNNING: event.num_running_before,
        },
    )


def _draft_inference(event: RequestFinished, end_ns: int, ns_of: Callable[[float], int]) -> Draft:
    attempts = event.attempts
    attributes = _facts_of(event)
    if event.prompt is not None:
        attributes[names.INPUT_MESSAGES] = input_messages(event.prompt)
    if event.answers:
        attributes[names.OUTPUT_MESSAGES] = output_messages(event.answers, event.finish_reasons)
    return Draft(
        name=names.INFERENCE,
        begin_ns=ns_of(attempts[0].submitted_s),
        end_ns=end_ns,
        attributes=attributes,
        moments=[
            Moment(
                names.FAILOVER,
                ns_of(lost.ended_s),
                {
                    names.FROM_ENGINE: lost.engine,
                    names.TO_ENGINE: next_one.engine,
                    names.REASON: encodable(lost.error),
                },
            )
            for lost, next_one in pairwise(attempts)
        ],
        parts=[part for attempt in attempts for part in _draft_attempt(attempt, ns_of)],
    )


def _draft_attempt(attempt: Attempt, ns_of: Callable[[float], int]) -> list[Draft]:
    if attempt.started_s is None:
        return []
    first_s = attempt.first_token_s
    engine: Attributes = {
        names.ENGINE: attempt.engine,
        names.BATCH_SIZE: attempt.max_batch_size,
    }
    prefill = Draft(
        name=names.PREFILL,
        begin_ns=ns_of(attempt.started_s),
        end_ns=ns_of(attempt.ended_s if first_s is None else first_s),
        attributes=engine | {names.CACHED_TOKENS: attempt.num_cached_tokens},
    )
    if first_s is None:
        return [prefill]
    decode = Draft(
        name=names.DECODE,
        begin_ns=ns_of(first_s),
        end_ns=ns_of(attempt.ended_s),
        attributes=engine | {names.GENERATED_TOKENS: attempt.num_tokens},
    )
    return [prefill, decode]


def _facts_of(event: RequestFinished) -> Attributes:
    facts: Attributes = {
        names.OPERATION: event.operation,
        names.PROVIDER: names.OUR_PROVIDER,
        names.REQUEST_MODEL: event.model,
        names.RESPONSE_MODEL: event.model,
        names.INPUT_TOKENS: event.num_prompt_tokens,
        names.OUTPUT_TOKENS: event.num_generated_tokens,
        names.CACHE_READ_TOKENS: event.num_cached_tokens,
        names.REQUEST_ID: event.request_id,
        names.STATUS: event.status.value,
        names.ENGINE: event.engine,
        names.BATCH_SIZE: max(attempt.max_batch_size for attempt in event.attempts),
        names.CACHED_TOKENS: event.num_cached_tokens,
    }
    if event.finish_reasons:
        facts[names.FINISH_REASONS] = event.finish_reasons
    if event.queue_wait_s is not None:
        facts[names.QUEUE_WAIT_S] = event.queue_wait_s
    if event.ttft_s is not None:
        facts |= {names.TTFT_S: event.ttft_s, names.TIME_TO_FIRST_CHUNK: event.ttft_s}
    return facts


def _add_failure(draft: Draft, event: RequestFinished) -> None:
    if event.status not in _FAILED:
        return
    error = event.error
    told_short = event.error_type or event.status.value
    draft.failure = told_short if error is None else encodable(error.message)
    draft.attributes[names.ERROR_TYPE] = told_short
    draft.attributes[names.STATUS] = event.status.value
    if error is not None:
        told: Attributes = {
            names.EXCEPTION_TYPE: error.error_type,
            names.EXCEPTION_MESSAGE: encodable(error.message),
            names.EXCEPTION_STACK: encodable(error.stack),
        }
        draft.moments.append(Moment(names.EXCEPTION, draft.end_ns, told))
