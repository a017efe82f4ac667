"""What answers tell of the choice of a workflow and of a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm_orch.api.schemas.answers import ChatAnswer, ChatChunk
from mm_orch.api.schemas.routing import RouteEvent, RoutingAnswer
from mm_orch.api.schemas.workflow_answers import FailedQuery, QueryAnswer
from mm_orch.core.errors import EngineFailedError
from mm_orch.core.routing import (
    ModelChoice,
    RankedModel,
    RankedWorkflow,
    Routing,
    RuledOut,
    WorkflowChoice,
)
from mm_orch.workflows.routes import RoutingSettings
from tests.unit.api.face import CHAT, HELLO, Face, assert_fits, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator
from tests.unit.api.test_workflows import named_events
from tests.unit.workflows.scene import make_registry

QUIZ = "Quiz me on European capitals, with exercises and answers."
PLAIN = "What is machine learning?"
AUTO_MODEL = {
    "model": "small",
    "by": "only",
    "reason": "There is no other.",
    "alternatives": [],
    "ruled_out": [],
}


def make_face(**fields: Any) -> Face:
    """All that can be routed to is there, and what answers by a script."""
    return Face(registry=make_registry(), **fields)


@pytest.mark.parametrize("asked", [{}, {"workflow_type": "auto"}, {"workflow_type": None}])
async def test_a_query_that_names_no_workflow_is_told_which_answered_and_why(
    asked: dict[str, Any],
) -> None:
    response = await make_face().post("/api/query", query=PLAIN, **asked)

    answer = response.json()
    assert_fits(answer, QueryAnswer)
    routing = answer["metadata"]["routing"]
    assert (answer["workflow_type"], routing["model"]) == ("chat_generate", None)
    workflow = routing["workflow"]
    assert (workflow["workflow"], workflow["by"]) == ("chat_generate", "learned")
    assert workflow["confidence"] == workflow["alternatives"][0]["score"]
    assert workflow["reason"]
    assert "rag_qa" in {one["name"] for one in workflow["ruled_out"]}
    told = response.headers["x-muai-route"]
    assert told.startswith("workflow=chat_generate; by=learned; confidence=")


async def test_another_query_goes_elsewhere() -> None:
    answer = (await make_face().post("/api/query", query=QUIZ)).json()

    assert (answer["result"], answer["workflow_type"]) == ("Done.", "lesson_pack")
    assert answer["metadata"]["routing"]["workflow"]["workflow"] == "lesson_pack"


async def test_a_query_that_names_all_is_told_of_no_choice() -> None:
    face = make_face()

    response = await face.post("/api/query", query=PLAIN, workflow_type="chat_generate")
    streamed = await face.post(
        "/api/query", query=PLAIN, workflow_type="chat_generate", stream=True
    )

    assert response.json()["metadata"]["routing"] == {"workflow": None, "model": None}
    assert "x-muai-route" not in response.headers
    assert "route" not in [name for name, _ in named_events(streamed)]


async def test_a_streamed_query_tells_the_choice_first() -> None:
    response = await make_face().post(
        "/api/query", query=PLAIN, stream=True, preferences={"model": "auto"}
    )

    events = named_events(response)
    name, route = events[0]
    assert name == "route"
    assert_fits(route, RouteEvent)
    assert (route["workflow"]["workflow"], route["model"]) == ("chat_generate", AUTO_MODEL)
    assert events[-1][1]["metadata"]["routing"] == route
    assert "model=small; by=only" in response.headers["x-muai-route"]


async def test_where_nothing_is_routed_by_default_a_bare_query_is_a_chat() -> None:
    face = make_face(routing=RoutingSettings(is_by_default=False))

    bare = (await face.post("/api/query", query=PLAIN)).json()
    auto = (await face.post("/api/query", query=PLAIN, workflow_type="auto")).json()

    assert bare["workflow_type"] == auto["workflow_type"] == "chat_generate"
    assert bare["metadata"]["routing"]["workflow"] is None
    assert auto["metadata"]["routing"]["workflow"]["by"] == "learned"


async def test_a_query_that_fails_after_it_was_routed_names_its_workflow() -> None:
    face = make_face(generator=ScriptedGenerator([EngineFailedError("broken")]))

    whole = (await face.post("/api/query", query=PLAIN)).json()
    _, streamed = named_events(await face.post("/api/query", query=PLAIN, stream=True))[-1]

    for body in (whole, streamed):
        assert_fits(body, FailedQuery)
        assert (body["status"], body["workflow_type"]) == ("failed", "chat_generate")


async def test_the_model_auto_is_told_in_header_and_body_of_openais_answers() -> None:
    face = make_face()

    whole = await face.chat(model="auto")
    streamed = await face.chat(model="auto", stream=True)
    plain = await face.chat(model="small")

    ChatAnswer.model_validate(whole.json())
    *_, last, _ = events_of(streamed)
    ChatChunk.model_validate_json(last)
    expected = {"routing": {"workflow": None, "model": AUTO_MODEL}}
    assert whole.json()["muai"] == json.loads(last)["muai"] == expected
    for response in (whole, streamed):
        told = response.headers["x-muai-route"]
        assert told == 'model=small; by=only; reason="There is no other."'
    assert "muai" not in plain.json()
    assert "x-muai-route" not in plain.headers
    assert [request.model for request in face.generator.requests] == ["auto", "auto", "small"]


async def test_a_workflow_may_be_left_open_on_openais_paths_too() -> None:
    response = await make_face().post(CHAT, **{**HELLO, "model": "workflow/auto/auto"})

    routing = response.json()["muai"]["routing"]
    assert_fits(routing, RoutingAnswer)
    assert routing["workflow"]["workflow"] == "chat_generate"
    assert routing["model"] == AUTO_MODEL
    assert response.headers["x-muai-route"].startswith("workflow=chat_generate; ")


async def test_several_prompts_at_once_are_the_default_models() -> None:
    face = make_face()

    one = await face.complete(model="auto", prompt="Hi")
    two = await face.complete(model="auto", prompt=["Hi", "Ho"])

    assert one.headers["x-muai-model"] == two.headers["x-muai-model"] == "small"
    assert "x-muai-route" in one.headers
    assert "x-muai-route" not in two.headers
    assert [request.model for request in face.generator.requests] == ["auto", None, None]


def test_every_choice_is_described_as_it_is_told() -> None:
    out = (RuledOut(name="a", reason="It is not there."),)
    routing = Routing(
        workflow=WorkflowChoice(
            workflow="search_qa",
            confidence=0.5,
            by="rules",
            reason="So.",
            alternatives=(RankedWorkflow(workflow="search_qa", score=0.5),),
            ruled_out=out,
        ),
        model=ModelChoice(
            model="small",
            by="scores",
            reason="So.",
            alternatives=(
                RankedModel(
                    model="small",
                    score=0.5,
                    expected_quality=0.5,
                    expected_latency_s=1.0,
                    expected_cost=2.0,
                ),
            ),
            ruled_out=out,
        ),
    )

    assert_fits(json.loads(json.dumps(routing.describe())), RoutingAnswer)
