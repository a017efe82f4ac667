"""Documents over HTTP: uploaded, listed, shown, forgotten, and taken elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.schemas import documents as shapes
from mm_orch.api.session_exchange import DOCUMENT_IMPORT_PATH
from mm_orch.api.settings import ApiSettings
from mm_orch.core.errors import DrainingError, EngineFailedError
from mm_orch.storage.document_lines import MIN_IMPORT_BYTES
from mm_orch.workflows.running import WorkflowSettings
from tests.pdf_files import make_pdf
from tests.unit.api.face import Face, Places, assert_fits
from tests.unit.api.scripted_embedder import ScriptedEmbedder
from tests.unit.api.served import call, serve
from tests.unit.api.test_sessions import KEYS
from tests.unit.storage.document_scene import open_documents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx2

    from mm_orch.storage.sql_documents import SqlDocuments

UPLOAD = "/api/rag/upload"
DOCUMENTS = "/api/rag/documents"
BIRDS = "# Birds\n\nHerons nest in alders.\n\n## Wrens\n\nWrens sing in winter.\n"
FORM = "multipart/form-data; boundary=b"
# Nothing here takes so long; it ends a test that would hang.
PATIENCE_S = 20


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[SqlDocuments]:
    async with open_documents(tmp_path) as opened:
        yield opened


def form_of(content: bytes, filename: str = "birds.md", **fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    return b"".join([*parts, head.encode(), content, b"\r\n--b--\r\n"])


async def send_form(face: Face, body: bytes, key: str = "") -> httpx2.Response:
    headers = {"Content-Type": FORM, **({"X-API-Key": key} if key else {})}
    return await face.call("POST", UPLOAD, headers=headers, content=body)


async def list_all(face: Face, key: str = "") -> list[dict[str, Any]]:
    answer = await face.call("GET", DOCUMENTS, headers={"X-API-Key": key} if key else None)
    assert_fits(answer.json(), shapes.DocumentList)
    return list(answer.json()["documents"])


async def test_a_file_is_stored_with_its_vectors_and_what_is_said_of_it(
    documents: SqlDocuments,
) -> None:
    face = Face(documents=documents)

    stored = await send_form(
        face,
        form_of(BIRDS.encode(), metadata='{"year": 1846}', chunk_size="32", chunk_overlap=""),
    )
    [listed] = await list_all(face)
    shown = await face.call("GET", f"{DOCUMENTS}/{stored.json()['document_id']}")

    assert stored.status_code == 200
    assert_fits(stored.json(), shapes.UploadAnswer)
    assert stored.json() | {"document_id": ""} == {
        "document_id": "",
        "chunks_count": 2,
        "status": "stored",
        "embedding_model": "vectors",
        "note": None,
    }
    assert (listed["name"], listed["metadata"]) == ("birds.md", {"year": 1846})
    assert (listed["size_bytes"], listed["chunk_size"]) == (len(BIRDS), 32)
    assert (listed["media_type"], listed["chunk_overlap"]) == ("text/markdown", 16)
    assert_fits(shown.json(), shapes.WholeDocumentAnswer)
    assert [(one["heading"], one["content"]) for one in shown.json()["chunks"]] == [
        ("", "# Birds\n\nHerons nest in alders."),
        ("Birds", "## Wrens\n\nWrens sing in winter."),
    ]
    # What is embedded has the headings.
    [request] = face.embedder.requests
    assert request.inputs[1] == "Birds\n## Wrens\n\nWrens sing in winter."
    assert face.places.models == ["vectors"]
    assert face.places.num_taken == 0


async def test_a_text_in_json_is_plain_unless_its_name_says_otherwise(
    documents: SqlDocuments,
) -> None:
    face = Face(documents=documents)

    plain = await face.post(UPLOAD, content=BIRDS)
    named = await face.post(UPLOAD, content=BIRDS, name="birds.md", metadata={"a": [1]})

    assert [one.json()["status"] for one in (plain, named)] == ["stored", "stored"]
    listed = await list_all(face)
    assert [(one["name"], one["media_type"], one["metadata"]) for one in listed] == [
        ("birds.md", "text/markdown", {"a": [1]}),
        ("text.txt", "text/plain", {}),
    ]


async def test_a_pdf_is_stored_by_its_pages(documents: SqlDocuments) -> None:
    face = Face(documents=documents)
    pdf = make_pdf(["heron " * 20, "wren " * 20])

    stored = await send_form(face, form_of(pdf, "birds.pdf", chunk_size="24", chunk_overlap="0"))

    shown = await face.call("GET", f"{DOCUMENTS}/{stored.json()['document_id']}")
    assert [one["page"] for one in shown.json()["chunks"]] == [1, 2]


async def test_the_same_file_is_known_and_another_way_to_cut_it_replaces_it(
    documents: SqlDocuments,
) -> None:
    face = Face(documents=documents)
    ways: list[dict[str, Any]] = [
        {},
        {},
        {"chunk_size": 16},
        {"chunk_size": 16},
        {"metadata": {"a": 1}},
    ]

    answers = [(await face.post(UPLOAD, content=BIRDS, **way)).json() for way in ways]
    other = (await face.post(UPLOAD, content=f"{BIRDS}more")).json()

    told = [one["status"] for one in answers]
    assert told == ["stored", "known", "replaced", "known", "replaced"]
    assert len({one["document_id"] for one in answers}) == 1
    assert other["status"] == "stored"
    # What is known is not embedded again.
    assert len(face.embedder.requests) == 4
    assert len(await list_all(face)) == 2


async def test_without_an_embedding_model_words_are_stored_and_this_is_said(
    documents: SqlDocuments,
) -> None:
    face = Face(documents=documents, embedding_model=None)

    answer = (await face.post(UPLOAD, content=BIRDS)).json()
    with_one = Face(documents=documents)
    later = (await with_one.post(UPLOAD, content=BIRDS)).json()

    assert_fits(answer, shapes.UploadAnswer)
    assert (answer["status"], answer["embedding_model"]) == ("stored", None)
    assert "No embedding model is configured" in answer["note"]
    assert face.embedder.requests == []
    assert [one.chunk.text[:7] for one in await documents.search_words("", "herons", 9)] == [
        "# Birds"
    ]
    # Once there is one, sending the file again adds the vectors.
    assert (later["status"], later["embedding_model"]) == ("replaced", "vectors")


async def test_a_document_belongs_to_the_key_that_brought_it(documents: SqlDocuments) -> None:
    face = Face(settings=ApiSettings(enable_auth=True, api_keys=KEYS), documents=documents)
    first, second = {"X-API-Key": "sk-first"}, {"X-API-Key": "sk-second"}
    document_id = (await face.post(UPLOAD, "sk-first", content=BIRDS)).json()["document_id"]
    path = f"{DOCUMENTS}/{document_id}"

    assert await list_all(face, "sk-second") == []
    for method in ("GET", "DELETE"):
        refused = await face.call(method, path, headers=second)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "document_not_found")
    deleted = await face.call("DELETE", path, headers=first)
    assert_fits(deleted.json(), shapes.ForgottenDocument)
    assert await list_all(face, "sk-first") == []
    assert (await face.call("GET", path, headers=first)).status_code == 404
    assert (await face.call("GET", DOCUMENTS)).status_code == 401


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "content", "content"),
        ({"content": ""}, "content", "content"),
        ({"content": " "}, "file", "has no text"),
        ({"content": "a\0"}, "file", r"holds U+0000"),
        ({"content": "a", "name": "a.docx"}, "file", "allowed endings: .txt"),
        ({"content": "a", "name": "a.pdf"}, "file", "is no PDF"),
        ({"content": "a", "name": "a/b.txt"}, "name", "no slashes"),
        ({"content": "a", "name": "x" * 256}, "name", "255"),
        ({"content": "a", "metadata": [1]}, "metadata", "metadata"),
        ({"content": "a", "metadata": {"a": "x" * 20_000}}, "metadata", "at most 16384"),
        ({"content": "a", "chunk_size": 15}, "chunk_size", "16"),
        ({"content": "a", "chunk_size": 257}, "chunk_size", "allowed: 16 to 256 tokens"),
        ({"content": "a", "chunk_size": "64"}, "chunk_size", "chunk_size"),
        ({"content": "a", "chunk_size": 64, "chunk_overlap": 33}, "chunk_overlap", "0 to 32"),
        ({"content": "a", "language": "en"}, "language", "language"),
    ],
)
async def test_a_wrong_field_is_named_with_what_is_allowed(
    documents: SqlDocuments, fields: dict[str, Any], param: str, words: str
) -> None:
    face = Face(documents=documents)

    refused = await face.post(UPLOAD, **fields)

    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param
    assert words in refused.json()["error"]["message"]
    assert not await documents.has_documents("")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it has no end"),
        (form_of(b"a", ""), "no field file with the name of a file"),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--', "no field file"),
        (form_of(b"a", color="1"), "color"),
        (form_of(b"a", chunk_size="many"), "chunk_size is not JSON"),
        (form_of(b"a", chunk_size="6.5"), "chunk_size"),
        (form_of(b"a", metadata="[" * 100_000), "metadata is not JSON"),
        (form_of(b"\xff"), "no text in UTF-8"),
        (form_of(b"%PDF-1.7", "a.pdf"), "The PDF cannot be read: it is damaged"),
    ],
)
async def test_a_wrong_form_is_refused_with_the_reason(
    documents: SqlDocuments, body: bytes, words: str
) -> None:
    face = Face(documents=documents)

    refused = await send_form(face, body)

    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert not await documents.has_documents("")


async def test_folders_in_the_name_of_a_file_are_left_out(documents: SqlDocuments) -> None:
    face = Face(documents=documents)

    for name in ("C:\\\\secret\\\\birds.md", "/home/ada/birds.md"):
        await send_form(face, form_of(name.encode(), name))

    assert [one["name"] for one in await list_all(face)] == ["birds.md", "birds.md"]


async def test_a_full_queue_or_a_drain_refuses_before_anything_is_done(
    documents: SqlDocuments,
) -> None:
    refusal = DrainingError("The server is being drained.", retry_after_s=3)
    face = Face(documents=documents, places=Places(refusal))

    refused = await face.post(UPLOAD, content=BIRDS)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "3")
    assert face.embedder.requests == []
    assert not await documents.has_documents("")


async def test_an_embedding_model_that_fails_leaves_nothing(documents: SqlDocuments) -> None:
    embedder = ScriptedEmbedder(refusal=EngineFailedError("A step failed."))
    face = Face(documents=documents, embedder=embedder)

    refused = await face.post(UPLOAD, content=BIRDS)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_failed")
    assert not await documents.has_documents("")
    assert face.places.num_taken == 0


async def test_an_upload_ends_with_its_deadline(documents: SqlDocuments) -> None:
    face = Face(
        documents=documents,
        embedder=ScriptedEmbedder(is_holding=True),
        workflow_settings=WorkflowSettings(timeout_s=0.2),
    )

    refused = await face.post(UPLOAD, content=BIRDS)

    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert "'text.txt' was not stored within 0.2 s" in refused.json()["error"]["message"]
    # On a busy machine the time may be over before the model is asked.
    assert face.embedder.has_been_cancelled.is_set() == bool(face.embedder.requests)
    assert face.places.num_taken == 0
    assert not await documents.has_documents("")


async def test_a_client_that_leaves_ends_its_upload_and_nothing_is_stored(
    documents: SqlDocuments,
) -> None:
    face = Face(documents=documents, embedder=ScriptedEmbedder(is_holding=True))
    async with asyncio.timeout(PATIENCE_S), serve(face.app) as port, call(port) as client:
        client.send(UPLOAD, {"content": BIRDS})
        await face.embedder.has_begun.wait()
        assert face.places.num_taken == 1

        await client.leave()
        await face.embedder.has_been_cancelled.wait()

    assert face.places.num_taken == 0
    assert not await documents.has_documents("")


async def test_documents_leave_with_one_key_and_come_with_another(
    documents: SqlDocuments,
) -> None:
    settings = ApiSettings(enable_auth=True, api_keys=KEYS, max_request_bytes=1000)
    face = Face(settings=settings, documents=documents)
    taking = {"X-API-Key": "sk-second"}
    await face.post(UPLOAD, "sk-first", content=BIRDS)

    left = await face.call("GET", "/api/export/documents", headers={"X-API-Key": "sk-first"})
    came, again = [
        await face.call("POST", DOCUMENT_IMPORT_PATH, headers=taking, content=left.content)
        for _ in range(2)
    ]
    large = await face.call("POST", DOCUMENT_IMPORT_PATH, headers=taking, content=b"\n" * 10**6)
    over = await face.call(
        "POST", DOCUMENT_IMPORT_PATH, headers=taking, content=b"\n" * (MIN_IMPORT_BYTES + 1)
    )
    too_large = await face.post(UPLOAD, "sk-first", content="x" * 1000)

    assert left.headers["content-type"].startswith("application/x-ndjson")
    for answer, told in ((came, (1, 0)), (again, (0, 1))):
        assert_fits(answer.json(), shapes.DocumentImportAnswer)
        assert tuple(answer.json().values()) == told
    assert [one["name"] for one in await list_all(face, "sk-second")] == ["text.txt"]
    # An import may be larger than other requests, so that every document fits.
    assert [one.status_code for one in (large, over, too_large)] == [400, 413, 413]


async def test_where_workflows_are_off_there_are_no_documents(documents: SqlDocuments) -> None:
    face = Face(documents=documents, workflow_settings=WorkflowSettings(is_enabled=False))

    answers = [
        await face.post(UPLOAD, content=BIRDS),
        await send_form(face, b"no form"),
        await face.call("GET", DOCUMENTS),
        await face.call("GET", f"{DOCUMENTS}/document-1"),
        await face.call("DELETE", f"{DOCUMENTS}/document-1"),
        await face.call("GET", "/api/export/documents"),
        await face.call("POST", DOCUMENT_IMPORT_PATH, content=b""),
    ]

    assert [one.status_code for one in answers] == [404] * 7
    assert {one.json()["error"]["code"] for one in answers} == {"not_served"}


async def test_a_file_that_cannot_be_used_fails_each_call_with_its_own_status() -> None:
    face = Face()

    answers = [
        await face.post(UPLOAD, content=BIRDS),
        await face.call("GET", DOCUMENTS),
        await face.call("GET", "/api/export/documents"),
    ]

    assert [one.status_code for one in answers] == [500] * 3
    assert {one.json()["error"]["code"] for one in answers} == {"storage_failed"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "limit=x"])
async def test_a_list_of_no_sensible_length_is_refused(query: str) -> None:
    assert (await Face().call("GET", f"{DOCUMENTS}?{query}")).status_code == 400
