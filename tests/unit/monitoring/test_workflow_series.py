"""What is counted of workflows."""

from __future__ import annotations

import pytest

from mm_orch.core.events import RequestStatus
from mm_orch.core.routing import ModelChoice, Routing
from mm_orch.core.workflow_events import WorkflowRouted
from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import MODEL, WORKFLOW, routed, run_finished
from tests.unit.monitoring.test_prometheus import samples_of, value_of


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver([MODEL], workflows=[WORKFLOW], clock=StillClock())


def test_a_known_workflow_is_there_at_zero_before_its_first_run(
    observer: PrometheusObserver,
) -> None:
    statuses = [*(one.value for one in RequestStatus), "partial"]

    for status in statuses:
        assert value_of(observer, "workflow_runs_total", workflow=WORKFLOW, status=status) == 0
    for by in ("learned", "rules", "default"):
        assert value_of(observer, "routing_decisions_total", workflow=WORKFLOW, by=by) == 0
    assert value_of(observer, "workflow_duration_seconds_count", workflow=WORKFLOW) == 0


def test_runs_count_by_how_they_ended_and_last_where_they_were_let_in(
    observer: PrometheusObserver,
) -> None:
    for run in (
        run_finished(),
        run_finished(is_partial=True),
        run_finished("error"),
        run_finished("rejected"),
    ):
        observer.observe(run)

    for status in ("success", "partial", "error", "rejected"):
        assert value_of(observer, "workflow_runs_total", workflow=WORKFLOW, status=status) == 1
    assert value_of(observer, "workflow_duration_seconds_count", workflow=WORKFLOW) == 3
    assert value_of(observer, "workflow_duration_seconds_sum", workflow=WORKFLOW) == 6.0


def test_choices_count_by_who_decided_and_a_model_for_a_named_one_is_none(
    observer: PrometheusObserver,
) -> None:
    observer.observe(routed())
    observer.observe(
        WorkflowRouted(
            request_id="r",
            workflow=WORKFLOW,
            routing=Routing(model=ModelChoice(model=MODEL, by="only", reason="So.")),
            begin_s=0.0,
            duration_s=0.0,
        )
    )

    assert value_of(observer, "routing_decisions_total", workflow=WORKFLOW, by="learned") == 1
    total = sum(one.value for one in samples_of(observer) if one.name == "routing_decisions_total")
    assert total == 1


def test_a_name_that_nobody_has_installed_makes_no_series(observer: PrometheusObserver) -> None:
    observer.observe(run_finished(workflow="made-up"))
    observer.observe(routed("made-up"))

    names = {one.labels["workflow"] for one in samples_of(observer) if "workflow" in one.labels}
    assert names == {WORKFLOW, "unknown"}
    assert value_of(observer, "workflow_runs_total", workflow="unknown", status="success") == 1
