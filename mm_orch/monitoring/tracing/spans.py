"""Makes finished spans of drafts and of HTTP exchanges: ids, parents, kind and status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from mm_orch.core.events import OTHER_METHOD, HttpRequestFinished, RequestFinished
from mm_orch.core.version import __version__
from mm_orch.core.workflow_events import WorkflowRouted, WorkflowStepFinished
from mm_orch.monitoring.tracing import conventions as names
from mm_orch.monitoring.tracing.content import encodable
from mm_orch.monitoring.tracing.drafts import Draft, draft_request, draft_routing, draft_step
from mm_orch.monitoring.tracing.epoch import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource

    from mm_orch.core.trace import TraceContext
    from mm_orch.monitoring.tracing.drafts import Attributes

TracedEvent = RequestFinished | HttpRequestFinished | WorkflowRouted | WorkflowStepFinished
"""What becomes spans, where it stands in a trace that is recorded."""

_SCOPE = InstrumentationScope(names.SCOPE, __version__)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_FIRST_SERVER_ERROR = 500


class SpanMaker:
    """Makes the spans of events that stand in a trace.

    Args:
        resource: who speaks.
        draw_span_id: gives 64 random bits that are not all zero.
        ns_of: tells the wall time of a reading of the monotonic clock.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        draw_span_id: Callable[[], int],
        ns_of: Callable[[float], int],
    ) -> None:
        self._resource = resource
        self._draw_span_id = draw_span_id
        self._ns_of = ns_of

    def make(self, event: TracedEvent) -> list[ReadableSpan]:
        """Return the spans of an event, parents first; none if it stands in no trace."""
        trace = event.trace
        if trace is None:
            return []
        match event:
            case RequestFinished():
                drafts = draft_request(event, self._ns_of)
                return self._finish_all(drafts, _context_of(trace, trace.span_id))
            case WorkflowRouted() | WorkflowStepFinished():
                own, parent = trace.span_id, event.parent_span_id
                draft = (
                    draft_step(event, self._ns_of)
                    if isinstance(event, WorkflowStepFinished)
                    else draft_routing(event, self._ns_of)
                )
                return [self._finish(draft, _context_of(trace, own), _context_of(trace, parent))]
            case HttpRequestFinished():
                return [self._make_root(event, trace)]

    def _make_root(self, event: HttpRequestFinished, trace: TraceContext) -> ReadableSpan:
        begin_ns = self._ns_of(event.begin_s)
        is_other = event.method == OTHER_METHOD
        attributes: Attributes = {
            names.HTTP_METHOD: names.OTHER_METHOD if is_other else event.method,
            names.HTTP_ROUTE: event.route,
            names.URL_PATH: encodable(event.path),
            names.URL_SCHEME: event.scheme,
            names.HTTP_STATUS: event.status,
            names.REQUEST_ID: event.request_id,
        }
        # A stream may break off after a good status.
        has_failed = event.status >= _FIRST_SERVER_ERROR or event.error_type != ""
        if has_failed:
            attributes[names.ERROR_TYPE] = event.error_type or str(event.status)
        draft = Draft(
            name=names.REQUEST,
            begin_ns=begin_ns,
            end_ns=begin_ns + nanoseconds(event.duration_s),
            attributes=attributes,
            failure="" if has_failed else None,
        )
        caller = event.parent_span_id
        parent = _context_of(trace, caller, is_remote=True) if caller else None
        context = _context_of(trace, trace.span_id)
        return self._finish(draft, context, parent, kind=SpanKind.SERVER)

    def _finish_all(self, drafts: list[Draft], parent: SpanContext) -> list[ReadableSpan]:
        spans = []
        for draft in drafts:
            context = SpanContext(
                parent.trace_id,
                self._draw_span_id(),
                is_remote=False,
                trace_flags=_SAMPLED,
                trace_state=parent.trace_state,
            )
            spans.append(self._finish(draft, context, parent))
            spans += self._finish_all(draft.parts, context)
        return spans

    def _finish(
        self,
        draft: Draft,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        failure = draft.failure
        return ReadableSpan(
            draft.name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=draft.attributes,
            events=[
                SpanEvent(moment.name, moment.attributes, moment.at_ns) for moment in draft.moments
            ],
            kind=kind,
            status=Status(StatusCode.UNSET)
            if failure is None
            else Status(StatusCode.ERROR, failure or None),
            start_time=draft.begin_ns,
            # Readings of one clock, but of several processes' steps.
            end_time=max(draft.begin_ns, draft.end_ns),
            instrumentation_scope=_SCOPE,
        )


def _context_of(trace: TraceContext, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(
        trace.trace_id,
        span_id,
        is_remote=is_remote,
        trace_flags=_SAMPLED,
        trace_state=TraceState.from_header([trace.state]) if trace.state else None,
    )
