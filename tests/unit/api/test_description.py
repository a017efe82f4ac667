"""Whether /openapi.json tells of everything there is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.schemas import answers
from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.generation import FinishReason, TextDelta
from tests.unit.api.described import read_description
from tests.unit.api.face import CHAT, HELLO, TEXT, Face, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator, call, say, tell, think

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from tests.unit.api.scripted_generator import Step

# A workflow may be of a later stage.
ANSWERING = {"200", "400", "401", "403", "404", "413", "429", "500", "503", "504"}
TAKING_IN = ANSWERING - {"403"}
STATUSES = {
    ("post", "/v1/chat/completions"): ANSWERING,
    ("post", "/v1/completions"): ANSWERING,
    ("post", "/v1/responses"): ANSWERING,
    ("post", "/v1/embeddings"): TAKING_IN,
    ("get", "/v1/models"): {"200", "401"},
    ("get", "/v1/models/{model}"): {"200", "401", "404"},
    ("get", "/health"): {"200", "503"},
    ("get", "/health/models/{name}"): {"200", "404"},
    ("get", "/live"): {"200"},
    ("get", "/ready"): {"200", "503"},
    ("delete", "/api/conversations/{conversation_id}"): {"200", "400", "401"},
    ("get", "/api/workflows"): {"200", "401"},
    ("post", "/api/query"): ANSWERING,
    ("post", "/api/chat"): ANSWERING,
    ("get", "/api/sessions"): {"200", "400", "401", "404", "500", "503"},
    ("get", "/api/export/sessions"): {"200", "401", "404", "500", "503"},
    ("post", "/api/import/sessions"): TAKING_IN,
    ("post", "/api/rag/query"): ANSWERING,
    ("post", "/api/rag/upload"): TAKING_IN,
    ("get", "/api/rag/documents"): {"200", "400", "401", "404", "500", "503"},
    ("get", "/api/rag/documents/{document_id}"): {"200", "401", "404", "500", "503"},
    ("delete", "/api/rag/documents/{document_id}"): {"200", "401", "404", "500", "503"},
    ("get", "/api/export/documents"): {"200", "401", "404", "500", "503"},
    ("post", "/api/import/documents"): TAKING_IN,
    ("get", "/api/sessions/{session_id}"): {"200", "401", "404", "500", "503"},
    ("delete", "/api/sessions/{session_id}"): {"200", "401", "404", "500", "503"},
    ("get", "/api/status"): {"200", "401"},
    ("get", "/api/consciousness"): {"200", "401", "404"},
    ("post", "/api/feedback"): {"200", "400", "401", "404", "413", "500", "503", "504"},
    ("get", "/api/models"): {"200", "401"},
    ("get", "/api/models/{name}"): {"200", "401", "404"},
    ("post", "/api/models/{name}/load"): {"200", "401", "403", "404", "503", "504"},
    ("post", "/api/models/{name}/unload"): {"200", "400", "401", "403", "404", "409"},
    ("post", "/api/models/{name}/drain"): {"200", "401", "403", "404"},
    ("post", "/api/models/{name}/resume"): {"200", "401", "403", "404"},
    ("get", "/api/metrics"): {"200", "400", "401", "404"},
    ("get", "/admin/alerts"): {"200", "401", "403", "404"},
    ("get", "/admin/usage"): {"200", "401", "403", "500", "503"},
    ("get", "/admin/requests"): {"200", "400", "401", "403", "404"},
    ("get", "/admin/tuner"): {"200", "401", "403", "404"},
    ("post", "/admin/drain"): {"200", "401", "403"},
    ("post", "/admin/resume"): {"200", "401", "403", "503"},
    ("get", "/metrics"): {"200"},
}


async def describe(settings: ApiSettings | None = None) -> Any:
    response = await Face(settings=settings or ApiSettings()).call("GET", "/openapi.json")
    assert response.status_code == 200
    return response.json()


def references(node: object) -> Iterator[str]:
    match node:
        case {"$ref": str(reference)}:
            yield reference
        case dict():
            for value in node.values():
                yield from references(value)
        case list():
            for value in node:
                yield from references(value)
        case _:
            return


async def test_every_path_and_status_is_described() -> None:
    paths = (await describe())["paths"]

    told = {
        (method, path): set(operation["responses"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    assert told == STATUSES


async def test_every_summary_says_more_than_the_name_of_a_function() -> None:
    described = await read_description()

    operations = [one for path in described["paths"].values() for one in path.values()]
    names = [one["summary"].lower().replace(" ", "_") for one in operations]
    assert len(names) > 40
    assert [
        one["summary"]
        for one, name in zip(operations, names, strict=True)
        if one["operationId"].startswith(f"{name}_")
    ] == []


async def test_every_reference_leads_somewhere() -> None:
    description = await describe()

    known = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert set(references(description)) <= known
    assert "$defs" not in json.dumps(description)


async def test_the_ranges_that_are_enforced_are_described() -> None:
    schemas = (await describe())["components"]["schemas"]

    chat = schemas["ChatRequest"]
    assert chat["required"] == ["messages"]
    assert chat["additionalProperties"] is False
    [temperature] = [kind for kind in chat["properties"]["temperature"]["anyOf"] if len(kind) > 1]
    assert (temperature["minimum"], temperature["maximum"]) == (0, 2)
    assert schemas["CompletionRequest"]["required"] == ["prompt"]


@pytest.mark.parametrize("enable_auth", [False, True])
async def test_a_key_is_asked_for_where_one_is_needed(enable_auth: bool) -> None:  # noqa: FBT001 - a parameter of the table
    settings = ApiSettings(enable_auth=enable_auth, api_keys=(ApiKey(name="a", key="sk"),))

    paths = (await describe(settings))["paths"]

    locked = {path for path, operations in paths.items() if "security" in str(operations)}
    expected = {path for path in paths if path.startswith(("/v1/", "/api/", "/admin/"))}
    assert locked == (expected if enable_auth else set())


TOLD = TextDelta(
    index=0, text="a", num_tokens=1, logprobs=(tell("a", -1.0, ("a", -1.0), ("b", -2.0)),)
)
SCRIPT = [TOLD, *say("b", reason=FinishReason.LENGTH)]
RICH = [*think("Hm"), TOLD, *call("f", "{", "}"), *say("b", reason=FinishReason.TOOL_CALLS)]


def assert_fits(content: Any, schema: type[BaseModel]) -> None:
    # What the schema does not know would be lost.
    assert schema.model_validate(content).model_dump(exclude_unset=True) == content


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v1/models", answers.ModelList),
        ("/v1/models/small", answers.ModelAnswer),
        ("/health", answers.HealthAnswer),
        ("/health/models/small", answers.ModelHealthAnswer),
        ("/live", answers.LiveAnswer),
        ("/ready", answers.ReadyAnswer),
        ("/api/status", answers.StatusAnswer),
    ],
)
async def test_what_watches_the_server_gets_what_is_described(
    path: str, schema: type[BaseModel]
) -> None:
    assert_fits((await Face().call("GET", path)).json(), schema)


@pytest.mark.parametrize(
    ("path", "body", "whole", "chunk", "script"),
    [
        (CHAT, {**HELLO, "logprobs": True}, answers.ChatAnswer, answers.ChatChunk, SCRIPT),
        (CHAT, {**HELLO, "logprobs": True}, answers.ChatAnswer, answers.ChatChunk, RICH),
        (
            TEXT,
            {"prompt": "Hi", "logprobs": 1},
            answers.CompletionAnswer,
            answers.CompletionChunk,
            SCRIPT,
        ),
    ],
)
async def test_answers_and_chunks_are_what_is_described(
    path: str,
    body: dict[str, Any],
    whole: type[BaseModel],
    chunk: type[BaseModel],
    script: list[Step],
) -> None:
    face = Face(ScriptedGenerator(script))
    options = {"stream": True, "stream_options": {"include_usage": True}}

    assert_fits((await face.call("POST", path, body)).json(), whole)
    *events, done = events_of(await face.call("POST", path, {**body, **options}))

    assert done == "[DONE]"
    for event in events:
        assert_fits(json.loads(event), chunk)
