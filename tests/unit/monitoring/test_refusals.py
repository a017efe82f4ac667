from __future__ import annotations

from mm_orch.core.events import RequestStatus
from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import MODEL, finished
from tests.unit.monitoring.test_prometheus import samples_of


def test_what_the_server_refuses_by_itself_is_counted_apart_from_errors() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())
    for model, error_type, status in (
        (MODEL, "QueueFullError", RequestStatus.REJECTED),
        (MODEL, "DeadlineTooSoonError", RequestStatus.REJECTED),
        (MODEL, "DrainingError", RequestStatus.REJECTED),
        ("unknown", "RateLimitError", RequestStatus.REJECTED),
        # The caller's fault, and an answer that a shutdown broke off.
        (MODEL, "InvalidValueError", RequestStatus.REJECTED),
        (MODEL, "DrainingError", RequestStatus.CANCELLED),
    ):
        observer.observe(finished(status, model=model, engine="unknown", error_type=error_type))

    counted = {
        (s.labels["model"], s.labels["reason"]): s.value
        for s in samples_of(observer)
        if s.name == "requests_refused_total"
    }
    reasons = ("queue_full", "deadline_too_soon", "draining", "rate_limit_exceeded")
    of_model = dict(zip(reasons, (1, 1, 1, 0), strict=True)) | {"model_unavailable": 0}
    of_unknown = dict.fromkeys(of_model, 0) | {"rate_limit_exceeded": 1}
    assert counted == {
        **{(MODEL, reason): count for reason, count in of_model.items()},
        **{("unknown", reason): count for reason, count in of_unknown.items()},
    }
    assert not [s for s in samples_of(observer) if s.name == "errors_total"]
