"""Documents out of one store and into another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import DocumentLimitError, InvalidValueError
from mm_orch.storage import document_lines, document_rows
from tests.unit.storage.document_scene import (
    MODEL,
    as_vectors,
    open_documents,
    store_texts,
    texts_of,
    vector_of,
)
from tests.unit.storage.scene import OWNER

if TYPE_CHECKING:
    from mm_orch.storage.sql_documents import SqlDocuments
    from tests.unit.storage.scene import Place

HEAD = b'{"format":"muai-documents","version":1}\n'
CHUNK = {"text": "one", "heading": "", "metadata": {"start": 0, "end": 3}}
LINE = {
    "document_id": f"document-{'0' * 32}",
    "name": "a.md",
    "media_type": "text/markdown",
    "num_bytes": 3,
    "digest": "0" * 64,
    "metadata": {},
    "chunk_size": 64,
    "chunk_overlap": 0,
    "created_at": 1.0,
    "chunks": [CHUNK],
}


async def export(store: SqlDocuments, owner: str = OWNER) -> list[bytes]:
    return [line async for line in store.export(owner)]


async def test_what_was_exported_is_imported_with_its_vectors_by_any_owner(place: Place) -> None:
    async with open_documents(place) as store:
        await store_texts(store, OWNER, "a.md", ["heron", "wren"], as_vectors((3, 4), (1, 0)))
        await store_texts(store, OWNER, "b.md", ["rook"], metadata={"x": [1, None]})
        await store_texts(store, "name:bob", "hidden.md", ["hidden"])
        lines = await export(store)
        own = await store.import_lines("name:carol", lines)
        again = await store.import_lines("name:carol", lines)

        assert (own.num_added, own.num_known) == (2, 0)
        assert (again.num_added, again.num_known) == (0, 2)
        assert await export(store, "name:carol") == lines
        for summary in await store.list_documents(OWNER, limit=9):
            known = await store.read("name:carol", summary.document_id)
            assert known == await store.read(OWNER, summary.document_id)
        [first, *_] = await store.search_vectors("name:carol", vector_of(3, 4), MODEL, 9)
        assert first.chunk.text == "heron"
        assert first.score == pytest.approx(1)
        assert texts_of(await store.search_words("name:carol", "rooks", 9)) == ["rook"]
    assert lines[0] == HEAD
    assert [json.loads(line)["name"] for line in lines[1:]] == ["b.md", "a.md"]
    assert b"hidden" not in b"".join(lines)
    assert b"alice" not in b"".join(lines)


def line_of(**fields: object) -> bytes:
    return json.dumps({**LINE, **fields}).encode()


def with_vectors(*vectors: str | None) -> bytes:
    chunks = [{**CHUNK, "vector": vector} for vector in vectors]
    return line_of(chunks=chunks, embedding_model=MODEL)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "The import is empty"),
        ([b'{"format":"muai-sessions","version":1}'], "is muai-sessions version 1; this program"),
        ([HEAD, b"nonsense"], "Line 2 is no document"),
        ([HEAD, b'{"metadata":' + b"[" * 10**5], "Line 2 is no document"),
        ([HEAD, line_of(name="")], "Line 2 is no document.*name"),
        ([HEAD, line_of(name="x" * 256)], "Line 2 is no document.*name"),
        ([HEAD, line_of(document_id="x")], "Line 2 is no document.*document_id"),
        ([HEAD, line_of(owner="name:bob")], "unknown field `owner`"),
        ([HEAD, line_of(digest="z" * 64)], "Line 2 is no document.*digest"),
        ([HEAD, line_of(chunk_size=0)], "Line 2 is no document.*chunk_size"),
        ([HEAD, line_of(num_bytes=2**63)], "Line 2 is no document.*num_bytes"),
        ([HEAD, line_of(created_at=-1)], "Line 2 is no document.*created_at"),
        ([HEAD, line_of(chunks=[{**CHUNK, "text": ""}])], "Line 2 is no document.*text"),
        ([HEAD, line_of(chunks=[{**CHUNK, "text": "four"}])], "not as long as its start and end"),
        ([HEAD, line_of(chunks=[{**CHUNK, "vector": "AACAPw=="}])], "has vectors of no model"),
        ([HEAD, with_vectors(None)], "its vectors are not one for each chunk"),
        ([HEAD, with_vectors("AACAPw==", "AACAPwAAgD8=")], "its vectors are not one for each"),
        ([HEAD, with_vectors("AAA=")], "its vectors are not one for each chunk"),
        ([HEAD, with_vectors("AADAfw==")], "a vector holds what is no number"),
        ([HEAD, line_of(), b"", line_of(name="b.md")], "is there already, with other content"),
    ],
)
async def test_an_import_with_a_fault_imports_nothing_and_says_where_it_is(
    place: Place, lines: list[bytes], words: str
) -> None:
    async with open_documents(place) as store:
        with pytest.raises(InvalidValueError, match=words):
            await store.import_lines(OWNER, lines)

        assert await store.list_documents(OWNER, limit=9) == ()


@pytest.mark.parametrize(
    ("module", "bound", "value", "words"),
    [
        (document_lines, "MAX_CHUNKS", 0, "The document of line 2 has 1 chunks; at most 0"),
        (document_lines, "MAX_METADATA_BYTES", 1, "The document of line 2 has metadata of 2"),
        (document_rows, "MAX_DOCUMENTS", 1, "the caller would have 2 documents"),
        (document_rows, "MAX_OWNER_CHUNKS", 1, "the caller would have 2 documents, 2 chunks"),
        (document_rows, "MAX_OWNER_BYTES", 500, "the caller would have 2 documents, 2 chunks"),
    ],
)
async def test_an_import_over_the_bounds_is_refused_whole(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    *,
    module: object,
    bound: str,
    value: int,
    words: str,
) -> None:
    monkeypatch.setattr(module, bound, value)
    other = line_of(name="b.md", document_id=f"document-{'1' * 32}")
    async with open_documents(place) as store:
        with pytest.raises(DocumentLimitError, match=words):
            await store.import_lines(OWNER, [HEAD, line_of(), other])

        assert not await store.has_documents(OWNER)


async def test_a_line_that_is_too_long_is_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_lines, "MAX_DOCUMENT_BYTES", 50)
    async with open_documents(place) as store:
        with pytest.raises(InvalidValueError, match=r"Line 2 has .* bytes; at most 50 are taken"):
            await store.import_lines(OWNER, [HEAD, line_of()])
