from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.errors import DrainingError
from mm_orch.core.events import Attempt, ErrorReport, RequestFinished, RequestStatus
from mm_orch.core.figures import Figures, HistoryFigures, ResourceFigures
from mm_orch.core.observations import AlertsReport, FiringAlert, RequestsReport
from mm_orch.core.trace import TraceContext
from mm_orch.core.tuning_report import MAX_DECISIONS, TunerReport, TuningDecision
from mm_orch.monitoring.recent import MAX_REQUESTS, RecentRequests
from tests.unit.api.face import Face
from tests.unit.api.scripted_generator import ScriptedLoader

ADMIN = (
    ("GET", "/admin/alerts"),
    ("GET", "/admin/requests"),
    ("GET", "/admin/usage"),
    ("GET", "/admin/tuner"),
    ("POST", "/admin/drain"),
)
KEYED = ApiSettings(
    enable_auth=True,
    api_keys=(ApiKey(name="a", key="sk-user"), ApiKey(name="b", key="sk-boss", is_admin=True)),
)
FIRING = FiringAlert(
    alert_type="high_latency",
    severity="error",
    model="small",
    engine="echo",
    message="slow",
    since="2026-01-01T00:00:00+00:00",
    value=3.0,
    limit=1.0,
)


def recent(*events: RequestFinished) -> RecentRequests:
    kept = RecentRequests(now=lambda: 1_700_000_014.0)
    for event in events:
        kept.observe(event)
    return kept


def finished(number: int = 0) -> RequestFinished:
    return RequestFinished(
        request_id=f"r{number}",
        model="small",
        engine="spare",
        status=RequestStatus.ERROR,
        total_s=4.0,
        begin_s=10.0,
        routed_s=10.25,
        error_type="EngineFailedError",
        error=ErrorReport(error_type="EngineFailedError", message="no memory", stack="secret"),
        attempts=(
            Attempt(
                engine="echo",
                submitted_s=10.5,
                started_s=11.0,
                first_token_s=11.5,
                ended_s=12.0,
                num_tokens=7,
                max_batch_size=3,
                error="it ended",
            ),
            Attempt(engine="spare", submitted_s=12.5, ended_s=14.0),
        ),
        trace=TraceContext(0xAB, 1, is_sampled=True),
        prompt="what was asked",
    )


@dataclass
class ScriptedObservations:
    kept: RecentRequests = field(default_factory=recent)

    def metrics(self, after: float | None = None) -> Figures:
        return Figures(
            window_seconds=300,
            models=(),
            operations=(),
            workflows=(),
            resources=ResourceFigures(),
            history=HistoryFigures(interval_seconds=after or 5, points=()),
        )

    def alerts(self) -> AlertsReport:
        return AlertsReport(firing=(FIRING,), history=(), destinations=())

    def requests(self, limit: int) -> RequestsReport:
        return self.kept.newest(limit)


def face(**fields: Any) -> Face:
    kept = recent(*map(finished, range(3)))
    return Face(observations=ScriptedObservations(kept), tuner=ScriptedTuner(), **fields)


async def test_the_last_requests_come_newest_first_with_their_timelines() -> None:
    answer = await face().call("GET", "/admin/requests?limit=2")

    newest, older = answer.json()["requests"]
    assert (newest["request_id"], older["request_id"]) == ("r2", "r1")
    assert newest["at"] == "2023-11-14T22:13:30.000+00:00"
    assert newest["trace_id"] == f"{0xAB:032x}"
    assert newest["routed_s"] == 0.25
    assert newest["error_message"] == "no memory"
    first, second = newest["attempts"]
    assert (first["submitted_s"], first["started_s"], first["first_token_s"]) == (0.5, 1.0, 1.5)
    assert (first["ended_s"], first["error"], first["max_batch_size"]) == (2.0, "it ended", 3)
    assert (second["started_s"], second["ended_s"]) == (None, 4.0)
    assert "what was asked" not in answer.text
    assert "secret" not in answer.text


async def test_what_is_kept_is_bounded_and_holds_no_text() -> None:
    kept = recent(*map(finished, range(MAX_REQUESTS + 3)))
    assert "what was asked" not in str(vars(kept))

    assert len(kept.newest(10 * MAX_REQUESTS).requests) == MAX_REQUESTS
    assert kept.newest(1).requests[0].request_id == f"r{MAX_REQUESTS + 2}"


@pytest.mark.parametrize("limit", ["0", "501", "many"])
async def test_a_limit_out_of_range_is_refused_by_name(limit: str) -> None:
    answer = await face().call("GET", f"/admin/requests?limit={limit}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


async def test_alerts_and_figures_are_shown() -> None:
    alerts = await face().call("GET", "/admin/alerts")
    figures = await face().call("GET", "/api/metrics?after=7.5")

    assert alerts.json()["firing"][0]["value"] == 3.0
    assert figures.json()["window_seconds"] == 300
    assert figures.json()["history"]["interval_seconds"] == 7.5


@pytest.mark.parametrize("path", ["/admin/alerts", "/admin/requests", "/api/metrics"])
async def test_without_monitoring_the_answer_says_what_to_switch_on(path: str) -> None:
    answer = await Face().call("GET", path)

    assert answer.status_code == 404
    assert "monitoring.enabled" in answer.json()["error"]["message"]


@dataclass
class ScriptedTuner:
    def report(self, max_decisions: int = MAX_DECISIONS) -> TunerReport:
        return msgspec.structs.replace(TUNED, decisions=TUNED.decisions[:max_decisions])


TUNED = TunerReport(
    target_p95_ms=2000.0,
    window_seconds=60,
    max_windows=8,
    values={"optimization.batcher.max_batch_size": 16},
    on_trial={"optimization.batcher.max_batch_size": 8},
    switched_off=("optimization.batcher.batch_timeout_ms",),
    left_alone=("optimization.cache.max_memory_mb",),
    decisions=(
        TuningDecision(
            at="2026-01-02T00:00:00+00:00",
            kind="try",
            parameter="max_batch_size",
            direction="up",
            old_values={"optimization.batcher.max_batch_size": 8},
            new_values={"optimization.batcher.max_batch_size": 16},
            rationale="the batch is full while requests wait",
            before=None,
            after=None,
        ),
    ),
)


async def test_what_the_tuner_decided_is_shown_with_its_reasons() -> None:
    answer = await face().call("GET", "/admin/tuner")

    assert msgspec.convert(answer.json(), TunerReport) == TUNED


async def test_without_a_tuner_the_answer_says_what_to_switch_on() -> None:
    answer = await Face().call("GET", "/admin/tuner")

    assert answer.status_code == 404
    assert "optimization.tuner.enabled" in answer.json()["error"]["message"]


async def test_draining_and_resuming_reach_the_loader() -> None:
    here = face()

    for path in (
        "/admin/drain",
        "/admin/resume",
        "/api/models/tiny/drain",
        "/api/models/tiny/resume",
    ):
        answer = await here.call("POST", path)
        assert answer.status_code == 200, answer.text

    assert here.loader.calls == [
        ("drain", "", False),
        ("resume", "", False),
        ("drain", "small", False),
        ("resume", "small", False),
    ]


async def test_a_server_that_stops_does_not_take_requests_again() -> None:
    refusal = DrainingError("The server is shutting down.", retry_after_s=10)

    answer = await face(loader=ScriptedLoader(refusal)).call("POST", "/admin/resume")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_with_keys_only_an_admins_key_opens(method: str, path: str) -> None:
    here = face(settings=KEYED)
    statuses = [
        (await here.call(method, path, headers=headers)).status_code
        for headers in ({}, {"X-API-Key": "sk-user"}, {"X-API-Key": "sk-boss"})
    ]

    assert statuses == [401, 403, 200]


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_without_keys_only_this_machine_may(method: str, path: str) -> None:
    elsewhere = face(address="203.0.113.9")

    assert (await elsewhere.call(method, path)).status_code == 403
    assert (await face().call(method, path)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Host": "evil.example"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
    ],
    ids=["foreign page", "sandboxed page", "other port", "rebound name", "proxy", "newer proxy"],
)
async def test_without_keys_nobody_comes_in_by_way_of_this_machine(
    headers: dict[str, str],
) -> None:
    assert (await face().call("POST", "/admin/drain", headers=headers)).status_code == 403


async def test_without_keys_the_console_may() -> None:
    headers = {"Origin": "http://localhost:8000", "Host": "localhost:8000"}

    assert (await face().call("POST", "/admin/drain", headers=headers)).status_code == 200
