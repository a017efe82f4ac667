"""Real files, a real server, the real embedding model: uploaded, embedded, found, kept, drained."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mm_orch.cli.form import write_form
from mm_orch.models.text import TextCodec
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sqlite_database import SqliteDatabase
from tests.conftest import EMBEDDING_MODEL, EMBEDDING_SOURCE
from tests.pdf_files import make_pdf
from tests.processes import ROOT, run_cli, share_models, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.models.stored import StoredModel
    from mm_orch.storage.documents import Document
    from tests.processes import Reply, ServerProcess

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model", "embedding_model")]

CORPUS = ROOT / "benchmarks/rag/documents"
FILE = CORPUS / "bird-survey-2014.md"
UPLOAD, DOCUMENTS = "/api/rag/upload", "/api/rag/documents"
CONFIG: dict[str, Any] = {
    "models": {
        "smollm2-135m": {"engines": ["echo"]},
        EMBEDDING_MODEL: {"source": EMBEDDING_SOURCE, "task": "embed"},
    },
    "api": {
        "enable_auth": True,
        "api_keys": [
            {"name": "ada", "key": "sk-ada"},
            {"name": "root", "key": "sk-root", "admin": True},
        ],
    },
}
ADA = {"X-API-Key": "sk-ada"}


@pytest.fixture(scope="module")
def data(data_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return share_models(data_directory, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def serving(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before the server starts
    data: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("documents"), config=CONFIG, environment=data)
    yield server
    server.stop()


def upload(server: ServerProcess, name: str, content: bytes) -> Reply:
    form, content_type = write_form(name, content)
    return server.request("POST", UPLOAD, form, {**ADA, "Content-Type": content_type})


async def read_stored(data: dict[str, str], owner: str, document_id: str) -> Document:
    database = SqliteDatabase(Path(data["MUAI_DATA_DIR"]) / "sessions.sqlite3")
    try:
        return await SqlDocuments(database, Fts5Index()).read(owner, document_id)
    finally:
        await database.close()


async def find_nearest(
    data: dict[str, str], owner: str, vector: list[float]
) -> list[tuple[str, float]]:
    """Return text and score of the nearest chunks, as the server has stored them."""
    database = SqliteDatabase(Path(data["MUAI_DATA_DIR"]) / "sessions.sqlite3")
    try:
        found = await SqlDocuments(database, Fts5Index()).search_vectors(
            owner, np.array(vector, dtype=np.float32), EMBEDDING_MODEL, 3
        )
    finally:
        await database.close()
    return [(one.chunk.text, one.score) for one in found]


def test_a_file_is_cut_by_the_models_tokens_and_found_by_what_it_means(
    serving: ServerProcess, data: dict[str, str], embedding_model: StoredModel
) -> None:
    reply = upload(serving, FILE.name, FILE.read_bytes())
    again = upload(serving, FILE.name, FILE.read_bytes())
    query = serving.request(
        "POST", "/v1/embeddings", {"input": "How many puffins were banded?"}, ADA
    )

    assert reply.status == 200, reply.body
    assert (reply.json["status"], reply.json["embedding_model"]) == ("stored", EMBEDDING_MODEL)
    assert again.json | {"status": "stored"} == reply.json
    assert again.json["status"] == "known"
    document = asyncio.run(read_stored(data, "name:ada", reply.json["document_id"]))
    codec = TextCodec.from_directory(Path(embedding_model.directory))
    sizes = [len(codec.encode_text(chunk.content)) for chunk in document.chunks]
    assert len(sizes) == reply.json["chunks_count"]
    assert max(sizes) <= document.summary.chunk_size
    vector = query.json["data"][0]["embedding"]
    (best, score), *_ = asyncio.run(find_nearest(data, "name:ada", vector))
    assert "1,310 puffins" in best
    assert 0.4 < score <= 1


def test_a_pdf_is_read_and_a_damaged_one_is_told_while_the_server_goes_on(
    serving: ServerProcess,
) -> None:
    pdf = make_pdf(["The lighthouse of Merrow is white.", "Its light is seen 18 miles away."])

    whole = upload(serving, "light.pdf", pdf)
    damaged = upload(serving, "light.pdf", pdf[: len(pdf) // 2])

    assert whole.status == 200, whole.body
    shown = serving.request("GET", f"{DOCUMENTS}/{whole.json['document_id']}", headers=ADA)
    assert "Merrow" in shown.json["chunks"][0]["content"]
    assert damaged.status == 400
    assert "The PDF cannot be read" in damaged.json["error"]["message"]
    assert serving.request("GET", "/health").json["status"] == "healthy"


def test_documents_leave_come_back_and_are_forgotten(serving: ServerProcess) -> None:
    mine = upload(serving, "mine.txt", b"Title\n\nThe kettle is in the cellar.").json
    path = f"{DOCUMENTS}/{mine['document_id']}"

    exported = serving.request("GET", "/api/export/documents", headers=ADA)
    other = {"X-API-Key": "sk-root"}
    taken = serving.request("POST", "/api/import/documents", exported.body, other)
    deleted = serving.request("DELETE", path, headers=ADA)

    assert exported.body.startswith(b'{"format":"muai-documents","version":1}\n')
    assert taken.json["documents_added"] == exported.body.count(b"\n") - 1
    assert deleted.json == {"document_id": mine["document_id"], "status": "deleted"}
    assert serving.request("GET", path, headers=ADA).status == 404
    assert serving.request("GET", path, headers=other).status == 200


def test_a_server_that_drains_takes_no_documents(serving: ServerProcess) -> None:
    admin = {"X-API-Key": "sk-root"}
    try:
        assert serving.request("POST", "/admin/drain", headers=admin).status == 200
        refused = upload(serving, "late.txt", b"too late")
    finally:
        serving.request("POST", "/admin/resume", headers=admin)

    assert (refused.status, refused.json["error"]["code"]) == (503, "draining")
    assert "Retry-After" in refused.headers or "retry-after" in refused.headers
    assert upload(serving, "late.txt", b"in time").status == 200


def test_a_server_that_is_killed_has_kept_what_it_said_to_be_stored(
    data_directory: Path, tmp_path: Path
) -> None:
    environment = share_models(data_directory, tmp_path)
    config = {**CONFIG, "models": {"smollm2-135m": {"engines": ["echo"]}}}
    directories = [tmp_path / name for name in ("first", "second")]
    for directory in directories:
        directory.mkdir()
    first = start_server(directories[0], config=config, environment=environment)
    reply = upload(first, "kept.txt", b"The kettle is in the cellar.")
    first.stop(signal.SIGKILL)

    second = start_server(directories[1], config=config, environment=environment)
    listed = second.request("GET", DOCUMENTS, headers=ADA).json["documents"]
    second.stop()

    assert reply.json["embedding_model"] is None
    assert "No embedding model is configured" in reply.json["note"]
    assert [one["document_id"] for one in listed] == [reply.json["document_id"]]


def test_the_command_line_stores_files_and_says_what_is_wrong_with_others(
    data_directory: Path, tmp_path: Path
) -> None:
    environment = share_models(data_directory, tmp_path)
    (tmp_path / "word.docx").write_bytes(b"PK")
    config = tmp_path / "muai.yaml"
    port = {"monitoring": {"server": {"port": 0}}}
    config.write_text(json.dumps({"models": CONFIG["models"], **port}))

    def run(*arguments: str) -> Any:
        return run_cli(
            *("--config", str(config)), *arguments, directory=tmp_path, environment=environment
        )

    mixed = run("--upload", str(FILE), "word.docx", "none.md")
    known = run("--upload", str(FILE), "--json")

    assert mixed.returncode == 1
    assert mixed.stdout.startswith(f"{FILE}: stored, ")
    assert mixed.stdout.count("\n") == 1
    assert "muai: word.docx: The file 'word.docx' is of no kind that is read" in mixed.stderr
    assert "muai: none.md: It cannot be read: No such file or directory." in mixed.stderr
    assert known.returncode == 0
    [told] = json.loads(known.stdout)["documents"]
    assert (told["file"], told["status"]) == (str(FILE), "known")
    assert told["chunks_count"] > 5


def test_the_command_line_uses_the_server_that_runs(serving: ServerProcess, tmp_path: Path) -> None:
    config = tmp_path / "muai.yaml"
    port = int(serving.url.rpartition(":")[2])
    config.write_text(json.dumps({**CONFIG, "monitoring": {"server": {"port": port}}}))
    (tmp_path / 'a "quoted" né.txt').write_text("By way of the server.")

    result = run_cli(
        *("--config", str(config), "--upload", 'a "quoted" né.txt'), directory=tmp_path
    )

    assert result.returncode == 0, result.stderr
    names = {
        one["name"] for one in serving.request("GET", DOCUMENTS, headers=ADA).json["documents"]
    }
    assert 'a "quoted" né.txt' in names
