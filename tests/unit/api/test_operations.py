"""What the paths say that watch the server."""

from __future__ import annotations

import httpx2
import pytest

from mm_orch.api.application import create_metrics_application
from mm_orch.api.schemas import answers
from mm_orch.api.settings import ApiSettings
from mm_orch.orchestration.reports import HealthStatus
from mm_orch.workers.phase import ModelPhase
from mm_orch.workflows.registry import WorkflowRegistry
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.face import Face, assert_fits
from tests.unit.api.scripted_generator import ScriptedReports, model_report

WORKFLOW = "workflow/chat_generate"


@pytest.mark.parametrize(
    ("health", "status"),
    [
        (HealthStatus.HEALTHY, 200),
        (HealthStatus.DEGRADED, 200),
        (HealthStatus.UNHEALTHY, 503),
    ],
)
async def test_health_is_503_when_unhealthy_and_tells_everything(
    health: HealthStatus, status: int
) -> None:
    face = Face(reports=ScriptedReports(health_status=health, reasons=("disk full",)))

    response = await face.call("GET", "/health")

    assert response.status_code == status
    assert response.json() == {
        "status": health.value,
        "degradation_reasons": ["disk full"],
        "uptime_seconds": 1.5,
        "models_loaded": ["small"],
        "engines_available": ["echo"],
        "engines": [{"engine": "echo", "is_available": True, "reason": "", "remedy": ""}],
        "queue_size": 2,
        "queue_capacity": 100,
        "version": "0.1.0",
        "endpoints": {},
    }


async def test_live_is_200_whatever_the_health() -> None:
    face = Face(
        reports=ScriptedReports(health_status=HealthStatus.UNHEALTHY, not_ready_because="no engine")
    )

    assert (await face.call("GET", "/live")).status_code == 200


@pytest.mark.parametrize(("reason", "status"), [("", 200), ("small is loading", 503)])
async def test_ready_says_why_not(reason: str, status: int) -> None:
    response = await Face(reports=ScriptedReports(not_ready_because=reason)).call("GET", "/ready")

    assert response.status_code == status
    assert response.json()["reason"] == reason


async def test_health_and_ready_stand_where_the_configuration_puts_them() -> None:
    face = Face(settings=ApiSettings(health_path="/up", ready_path="/go"))

    assert (await face.call("GET", "/up")).status_code == 200
    assert (await face.call("GET", "/go")).status_code == 200
    assert (await face.call("GET", "/health")).status_code == 404


async def test_a_models_health_tells_phase_and_progress() -> None:
    face = Face()

    loading = await face.call("GET", "/health/models/large")
    ready = await face.call("GET", "/health/models/tiny")
    gone = await face.call("GET", "/health/models/gone")

    assert loading.json()["status"] == "loading"
    assert loading.json()["detail"] == "reading weights: 40 %"
    assert (ready.json()["name"], ready.json()["status"]) == ("small", "ready")
    assert gone.status_code == 404
    assert "large" in gone.json()["error"]["message"]


@pytest.mark.parametrize("phase", ModelPhase)
async def test_each_phase_has_its_word(phase: ModelPhase) -> None:
    face = Face(reports=ScriptedReports(models=(model_report("small", phase),)))

    response = await face.call("GET", "/health/models/small")

    assert response.json()["status"] == phase.value


async def test_models_are_listed_as_openai_does() -> None:
    body = (await Face().call("GET", "/v1/models")).json()

    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == [
        "small",
        "large",
        # The cascade is switched off where nobody switches it on.
        *(f"workflow/{name}" for name in WorkflowRegistry().names if name != "cascade"),
    ]
    for model in body["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert isinstance(model["owned_by"], str)


@pytest.mark.parametrize("name", [WORKFLOW, f"{WORKFLOW}/tiny"])
async def test_a_workflow_is_a_model_to_openais_clients(name: str) -> None:
    response = await Face().call("GET", f"/v1/models/{name}")

    assert response.status_code == 200
    assert_fits(response.json(), answers.ModelAnswer)
    assert (response.json()["id"], response.json()["owned_by"]) == (name, "muai-workflows")


@pytest.mark.parametrize(
    ("name", "code"),
    [("workflow/gone", "workflow_not_found"), (f"{WORKFLOW}/gone", "model_not_found")],
)
async def test_a_workflow_or_its_model_that_is_not_there_is_404(name: str, code: str) -> None:
    response = await Face().call("GET", f"/v1/models/{name}")

    assert (response.status_code, response.json()["error"]["code"]) == (404, code)


async def test_workflows_that_are_switched_off_are_no_models() -> None:
    face = Face(workflow_settings=WorkflowSettings(is_enabled=False))

    listed = await face.call("GET", "/v1/models")

    assert [model["id"] for model in listed.json()["data"]] == ["small", "large"]
    assert (await face.call("GET", f"/v1/models/{WORKFLOW}")).status_code == 404


@pytest.mark.parametrize("name", ["small", "tiny", "org/small", "org%2Fsmall"])
async def test_a_model_is_found_by_name_and_alias(name: str) -> None:
    response = await Face().call("GET", f"/v1/models/{name}")

    assert response.status_code == 200
    assert response.json()["id"] == "small"


async def test_an_unknown_model_is_404_with_the_known_ones() -> None:
    response = await Face().call("GET", "/v1/models/gone")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "tiny" in response.json()["error"]["message"]


async def test_status_is_the_whole_report() -> None:
    body = (await Face().call("GET", "/api/status")).json()

    assert body["health"]["status"] == "healthy"
    assert body["default_model"] == "small"
    assert body["models"][1]["phase"] == "loading"
    assert body["engines"][0] == {
        "engine": "echo",
        "is_available": True,
        "reason": "",
        "remedy": "",
    }


async def test_metrics_are_a_text_page_and_absent_when_off() -> None:
    page = await Face().call("GET", "/metrics")
    off = await Face(has_metrics=False).call("GET", "/metrics")

    assert page.text == "up 1\n"
    assert page.headers["content-type"] == "text/plain; version=0.0.4"
    assert off.status_code == 404


async def test_the_metrics_port_has_that_one_path() -> None:
    app = create_metrics_application(lambda _: (b"up 1\n", "text/plain; version=0.0.4"), "/m")
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://face") as client:
        page, other = await client.get("/m"), await client.get("/health")

    assert (page.text, page.headers["content-type"]) == ("up 1\n", "text/plain; version=0.0.4")
    assert other.status_code == 404
