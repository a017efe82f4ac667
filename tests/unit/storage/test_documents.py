"""Documents in their store: all or nothing, each for its owner, found by words and by vectors."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import (
    DocumentLimitError,
    DocumentNotFoundError,
    InvalidValueError,
    StorageError,
)
from mm_orch.storage import document_lines, document_rows
from tests.unit.storage.document_scene import (
    MODEL,
    as_vectors,
    new_document,
    open_documents,
    passage,
    store_texts,
    texts_of,
    vector_of,
)
from tests.unit.storage.scene import FILE, OWNER, count_rows, fill, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.storage.sql_documents import SqlDocuments
    from tests.unit.storage.scene import Place

OTHER = "name:bob"


@pytest.fixture
async def file_store(tmp_path: Path) -> AsyncIterator[SqlDocuments]:
    async with open_documents(tmp_path) as opened:
        yield opened


@pytest.fixture
async def store(place: Place) -> AsyncIterator[SqlDocuments]:
    async with open_documents(place) as opened:
        yield opened


async def test_a_document_is_read_as_it_was_stored(store: SqlDocuments) -> None:
    document = new_document(content="c", metadata={"tags": ["a", {"b": None}]})
    chunks = [passage("one", "Title", 3), passage("two", "Title > Part", 9, page=4)]

    added = await store.add(OWNER, document, chunks, None)
    read = await store.read(OWNER, added.summary.document_id)

    assert added.is_new
    assert read.summary == added.summary
    assert read.summary.num_chunks == 2
    assert read.summary.metadata == {"tags": ["a", {"b": None}]}
    assert [(one.number, one.text, one.heading, one.metadata) for one in read.chunks] == [
        (number, one.text, one.heading, one.metadata) for number, one in enumerate(chunks)
    ]
    assert {one.document_id for one in read.chunks} == {added.summary.document_id}


async def test_the_same_file_again_takes_the_place_of_the_first(store: SqlDocuments) -> None:
    first = await store_texts(store, OWNER, "a.md", ["heron", "wren"])
    document = new_document("a.md", "heron\nwren", chunk_size=99)

    again = await store.add(OWNER, document, [passage("heron wren")], None)

    assert not again.is_new
    assert again.summary.document_id == first.document_id
    assert again.summary.chunk_size == 99
    assert texts_of(await store.search_words(OWNER, "wren", 9)) == ["heron wren"]
    assert await store.list_documents(OWNER, limit=9) == (again.summary,)
    assert await store.find_same(OWNER, "a.md", document.digest) == again.summary
    assert await store.find_same(OTHER, "a.md", document.digest) is None
    assert await store.find_same(OWNER, "b.md", document.digest) is None


async def test_nobody_else_sees_a_document_or_learns_that_it_is_there(
    store: SqlDocuments,
) -> None:
    vectors = as_vectors((1, 0))
    summary = await store_texts(store, OWNER, "a.md", ["heron"], vectors)

    assert not await store.has_documents(OTHER)
    assert await store.list_documents(OTHER, limit=9) == ()
    assert await store.search_words(OTHER, "heron", 9) == ()
    assert await store.search_vectors(OTHER, vectors[0], MODEL, 9) == ()
    assert [line async for line in store.export(OTHER)] == [document_lines.make_head()]
    for call in (store.read, store.delete):
        with pytest.raises(DocumentNotFoundError, match=summary.document_id):
            await call(OTHER, summary.document_id)
    assert await store.has_documents(OWNER)


async def test_nothing_of_a_deleted_document_is_left(store: SqlDocuments, place: Place) -> None:
    vectors = as_vectors((1, 0))
    kept = await store_texts(store, OWNER, "kept.md", ["a kept heron"], vectors)
    gone = await store_texts(store, OWNER, "gone.md", ["a gone heron 机器"], vectors)

    await store.delete(OWNER, gone.document_id)

    assert texts_of(await store.search_words(OWNER, "heron gone", 9)) == ["a kept heron"]
    assert texts_of(await store.search_words(OWNER, "机器", 9)) == []
    assert texts_of(await store.search_vectors(OWNER, vectors[0], MODEL, 9)) == ["a kept heron"]
    assert await store.list_documents(OWNER, limit=9) == (kept,)
    tables = ("documents", "chunks", "vectors")
    assert [await count_rows(store, table) for table in tables] == [1, 1, 1]
    if isinstance(place, Path):
        with closing(sqlite3.connect(place / FILE)) as connection:
            connection.execute("INSERT INTO chunk_words (chunk_words) VALUES ('integrity-check')")


async def test_documents_are_listed_in_parts_the_newest_first(store: SqlDocuments) -> None:
    for number in range(5):
        await store_texts(store, OWNER, f"{number}.md", ["text"])

    listed = [await store.list_documents(OWNER, limit=2, offset=offset) for offset in (0, 2, 4)]

    assert [[one.name for one in part] for part in listed] == [
        ["4.md", "3.md"],
        ["2.md", "1.md"],
        ["0.md"],
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Where do herons nest?", ["A heron nests in the alder."]),
        ("NESTING", ["A heron nests in the alder."]),
        ("cafe", ["The café opens at nine."]),
        ("Café", ["The café opens at nine."]),
        ("E-17", ["Code E-17 means no water."]),
        ("机器学习", ["机器学习是人工智能的一部分。"]),
        ("器学", ["机器学习是人工智能的一部分。"]),
        ("习", ["机器学习是人工智能的一部分。"]),
        ("分", ["机器学习是人工智能的一部分。"]),
        ("学器", []),
        ("zebra", []),
        ("", []),
        ('"', []),
        ("* ( ) : ^ - + {", []),
        ("___", []),
        ('heron" OR owner_word : "', ["A heron nests in the alder."]),
        ("NOT heron", ["A heron nests in the alder."]),
        ("heron AND", ["A heron nests in the alder."]),
        ("heading:heron*", ["A heron nests in the alder."]),
        ("\0heron\ud800", ["A heron nests in the alder."]),
    ],
)
async def test_any_words_find_the_texts_that_have_them(
    store: SqlDocuments, query: str, found: list[str]
) -> None:
    texts = [
        "A heron nests in the alder.",
        "The café opens at nine.",
        "Code E-17 means no water.",
        "机器学习是人工智能的一部分。",
    ]
    await store_texts(store, OWNER, "a.md", texts)

    assert texts_of(await store.search_words(OWNER, query, 9)) == found


async def test_rare_words_and_headings_count_and_the_best_come_first(
    store: SqlDocuments,
) -> None:
    chunks = [
        passage("the water is cold and the water is deep"),
        passage("the kettle is cold"),
        passage("the tide is low", "Lighthouse of Merrow"),
        *(passage(f"the water of pond {number}") for number in range(8)),
    ]
    await store.add(OWNER, new_document(), chunks, None)

    rare = await store.search_words(OWNER, "the water and the kettle", 3)
    heading = await store.search_words(OWNER, "merrow", 3)

    assert rare[0].chunk.text == "the kettle is cold"
    assert [one.score for one in rare] == sorted((one.score for one in rare), reverse=True)
    assert rare[-1].score > 0
    assert len(rare) == 3
    assert texts_of(heading) == ["the tide is low"]


async def test_what_others_store_changes_no_answer(store: SqlDocuments) -> None:
    await store_texts(store, OWNER, "a.md", ["heron", "wren heron"])
    for number in range(5):
        await store_texts(store, OTHER, f"{number}.md", ["wren"] * 9)

    assert texts_of(await store.search_words(OWNER, "wren", 1)) == ["wren heron"]


async def test_the_nearest_vectors_come_first_with_their_cosine(store: SqlDocuments) -> None:
    # Of any length.
    vectors = as_vectors((0, 9), (3, 3), (-1, 0), (0, 0), (5, 0))
    await store_texts(store, OWNER, "a.md", ["up", "between", "left", "nowhere", "right"], vectors)

    found = await store.search_vectors(OWNER, vector_of(2, 0), MODEL, 9)

    assert texts_of(found)[:2] == ["right", "between"]
    assert texts_of(found)[-1] == "left"
    assert [one.score for one in found] == pytest.approx([1, 2**-0.5, 0, 0, -1], abs=1e-6)
    assert len(await store.search_vectors(OWNER, vector_of(2, 0), MODEL, 2)) == 2


async def test_vectors_are_compared_with_those_of_their_own_model_alone(
    store: SqlDocuments,
) -> None:
    await store_texts(store, OWNER, "a.md", ["long"], as_vectors((1, 0, 0)))
    await store_texts(store, OWNER, "b.md", ["short"], as_vectors((1, 0)))
    await store_texts(store, OWNER, "c.md", ["none"])

    assert texts_of(await store.search_vectors(OWNER, vector_of(1, 0), MODEL, 9)) == ["short"]
    assert await store.search_vectors(OWNER, vector_of(1, 0), "other", 9) == ()
    # Of no direction: nothing is nearer than anything else.
    [found] = await store.search_vectors(OWNER, vector_of(0, 0), MODEL, 9)
    assert found.score == 0


async def test_vectors_that_do_not_fit_the_chunks_are_a_mistake(store: SqlDocuments) -> None:
    named = new_document(embedding_model=MODEL)
    for document, vectors in (
        (named, as_vectors((1, 0), (0, 1))),
        (named, None),
        (new_document(), as_vectors((1, 0))),
    ):
        with pytest.raises(ValueError, match=r"vectors|argument"):
            await store.add(OWNER, document, [passage("one")], vectors)

    assert not await store.has_documents(OWNER)


async def test_what_is_too_large_is_refused_and_leaves_what_was_there(
    store: SqlDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["one", "two"]
    await store_texts(store, OWNER, "a.md", texts)
    for module, bound, value, words in (
        (document_rows, "MAX_DOCUMENTS", 1, "2 documents, 4 chunks.*at most 1, 100000 and"),
        (document_rows, "MAX_OWNER_CHUNKS", 3, "2 documents, 4 chunks"),
        (document_rows, "MAX_OWNER_BYTES", 900, "at most 10000, 100000 and 900 are stored"),
        (document_lines, "MAX_CHUNKS", 1, "'b.md' has 2 chunks; at most 1 are stored"),
        (document_lines, "MAX_DOCUMENT_BYTES", 99, "at most 99 are stored"),
        (document_lines, "MAX_METADATA_BYTES", 9, "metadata of 15 bytes as JSON; at most 9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, bound, value)
            with pytest.raises(DocumentLimitError, match=words):
                await store_texts(store, OWNER, "b.md", texts, metadata={"key": "value"})

    # Taking the place of itself takes no more room.
    monkeypatch.setattr(document_rows, "MAX_DOCUMENTS", 1)
    await store_texts(store, OWNER, "a.md", texts, chunk_size=99)
    # Others have room of their own.
    await store_texts(store, OTHER, "b.md", texts)
    with pytest.raises(InvalidValueError, match="name has 0 characters; allowed: 1 to 255"):
        await store_texts(store, OWNER, "", texts)
    assert [one.name for one in await store.list_documents(OWNER, limit=9)] == ["a.md"]


async def test_sessions_and_documents_have_one_file(place: Place) -> None:
    async with open_store(place) as sessions, open_documents(place) as documents:
        await fill(sessions, "s", 1)
        await store_texts(documents, OWNER, "a.md", ["heron"])

        assert len((await sessions.read(OWNER, "s")).turns) == 1
        assert await documents.has_documents(OWNER)


async def test_a_full_disk_undoes_the_whole_document(file_store: SqlDocuments) -> None:
    store = file_store
    first = await store_texts(store, OWNER, "a.md", ["heron"])
    await store._database.write(
        lambda connection: connection.execute("PRAGMA max_page_count = 1").close()
    )

    # The document that it replaces is deleted before.
    with pytest.raises(StorageError, match="is full"):
        await store.add(OWNER, new_document("a.md", "heron"), [passage("wren " * 10**5)], None)

    assert "is full" in str(store.failure)
    assert await store.list_documents(OWNER, limit=9) == (first,)
    assert texts_of(await store.search_words(OWNER, "heron wren", 9)) == ["heron"]
