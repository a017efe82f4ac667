"""POST /api/rag/query: what it takes, and how it answers and refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.schemas.rag import DocumentsAnswer
from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.workflows.rag_prompt import REFUSAL
from tests.unit.api.face import CHAT, Face
from tests.unit.api.scripted_generator import ScriptedGenerator, say
from tests.unit.storage.document_scene import open_documents
from tests.unit.workflows.rag_scene import LIT, QUESTION, BagEmbedder, store_light

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.storage.sql_documents import SqlDocuments

PATH = "/api/rag/query"
TRUE = "Cape Merrow Light was first lit on 3 October 1834."


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlDocuments]:
    async with open_documents(tmp_path) as opened:
        await store_light(opened, owner="")
        yield opened


def make_face(store: SqlDocuments, **fields: object) -> Face:
    return Face(
        generator=ScriptedGenerator(say(TRUE)),
        embedder=BagEmbedder(),  # type: ignore[arg-type]  # nothing is uploaded
        documents=store,
        **fields,  # type: ignore[arg-type]  # by name
    )


async def test_the_answer_has_its_sources_with_scores(store: SqlDocuments) -> None:
    reply = await make_face(store).post(PATH, query=QUESTION, top_k=2, threshold=0)

    assert reply.status_code == 200, reply.text
    told = DocumentsAnswer.model_validate_json(reply.content, strict=True)
    assert told.answer == f"{TRUE} [1]"
    assert told.sources[0].content == LIT
    assert len(told.sources) == 2
    assert told.sources[0].score > told.sources[1].score
    assert told.status == "success"


async def test_below_the_threshold_it_declines(store: SqlDocuments) -> None:
    reply = await make_face(store).post(PATH, query=QUESTION, threshold=1)

    told = reply.json()
    assert (told["answer"], told["sources"], told["failed_steps"]) == (REFUSAL, [], [])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": "x" * 10_001}, "query"),
        ({"query": "x", "top_k": 0}, "top_k"),
        ({"query": "x", "top_k": 21}, "top_k"),
        ({"query": "x", "threshold": 1.5}, "threshold"),
        ({"query": "x", "colour": "red"}, "colour"),
        ({}, "query"),
    ],
)
async def test_what_is_not_allowed_is_refused_by_its_name(
    store: SqlDocuments, fields: dict[str, Any], param: str
) -> None:
    reply = await make_face(store).post(PATH, **fields)

    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


async def test_each_key_asks_its_own_documents_on_every_path(store: SqlDocuments) -> None:
    await store_light(store, owner="name:ada")
    keys = tuple(ApiKey(name=name, key=f"sk-{name}") for name in ("ada", "bob"))
    face = make_face(store, settings=ApiSettings(enable_auth=True, api_keys=keys))
    messages = [{"role": "user", "content": QUESTION}]

    for path, body in (
        (PATH, {"query": QUESTION}),
        ("/api/query", {"query": QUESTION, "workflow_type": "rag_qa"}),
        (CHAT, {"model": "workflow/rag_qa", "messages": messages}),
    ):
        own = await face.post(path, "sk-ada", **body)
        other = await face.post(path, "sk-bob", **body)
        assert own.status_code == 200, own.text
        assert other.status_code == 404
        assert other.json()["error"]["code"] == "document_not_found"


async def test_over_openais_path_a_declined_question_names_the_workflow_as_its_model(
    store: SqlDocuments,
) -> None:
    asked = {"role": "user", "content": "What is the capital of Mongolia?"}

    reply = await make_face(store).chat(model="workflow/rag_qa", messages=[asked])

    told = reply.json()
    assert told["choices"][0]["message"]["content"] == REFUSAL
    assert told["model"] == "workflow/rag_qa"
    assert told["usage"]["total_tokens"] == 0
