"""What spans say of the choice of a workflow and of a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_orch.core.routing import ModelChoice, RankedModel, Routing, RuledOut
from mm_orch.core.trace import TraceContext
from tests.unit.monitoring.scripted_events import routed
from tests.unit.monitoring.tracing.stories import TRACE, finished
from tests.unit.monitoring.tracing.test_spans import bounds_s, spans_of


def test_the_choice_of_a_workflow_is_a_span_below_the_request_and_says_why() -> None:
    own = TraceContext(TRACE.trace_id, 0xD4, is_sampled=True)
    event = replace(routed(), trace=own, parent_span_id=TRACE.span_id)

    [span] = spans_of(event)

    assert (span.name, span.context.span_id, span.parent.span_id) == (
        "workflow.route",
        0xD4,
        TRACE.span_id,
    )
    assert bounds_s(span) == (10.0, pytest.approx(10.001))
    assert span.attributes["muai.workflow.name"] == "chat_generate"
    assert span.attributes["muai.route.workflow.by"] == "learned"
    assert span.attributes["muai.route.workflow.confidence"] == 0.9
    assert span.attributes["muai.route.workflow.reason"] == "So."
    assert span.attributes["muai.route.workflow.alternatives"] == ["chat_generate: 0.900"]
    assert "muai.route.model.by" not in span.attributes


def test_the_choice_of_a_model_stands_where_it_was_made() -> None:
    choice = ModelChoice(
        model="small",
        by="scores",
        reason="So.",
        alternatives=(
            RankedModel(
                model="small",
                score=0.75,
                expected_quality=1.0,
                expected_latency_s=1.0,
                expected_cost=1.0,
            ),
        ),
        ruled_out=(RuledOut(name="large", reason="it is being drained"),),
    )
    own = TraceContext(TRACE.trace_id, 0xD4, is_sampled=True)
    of_run = replace(routed(), routing=Routing(model=choice), trace=own)

    route = next(span for span in spans_of(finished(choice=choice)) if span.name == "route")
    [run] = spans_of(of_run)
    [plain] = [span for span in spans_of(finished()) if span.name == "route"]

    for span in (route, run):
        assert span.attributes["muai.route.model.by"] == "scores"
        assert span.attributes["muai.route.model.reason"] == "So."
        assert span.attributes["muai.route.model.alternatives"] == ["small: 0.750"]
        assert span.attributes["muai.route.model.ruled_out"] == ["large: it is being drained"]
    assert run.attributes["muai.model"] == "small"
    assert not any(name.startswith("muai.route") for name in plain.attributes)
