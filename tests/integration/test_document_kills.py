"""A process that stores documents is killed, again and again: what it acknowledged is there.

The small form kills eight processes, the long one two hundred, one after another on the same file.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mm_orch.storage.documents import MAX_DOCUMENTS, Document
from mm_orch.storage.fts5_index import Fts5Index
from mm_orch.storage.sql_documents import SqlDocuments
from mm_orch.storage.sqlite_database import SqliteDatabase
from tests.document_writer import DIMENSIONS, MODEL, OWNER, word_of
from tests.killed_writers import write_and_kill

if TYPE_CHECKING:
    from pathlib import Path

SEED = 43
MAX_LINES_BEFORE = 12
# About as long as storing one document takes: the kill falls anywhere in that.
MAX_DELAY_S = 0.02
DELETING, DELETED = "?", "-"
# Each chunk has its row, its vector and its words, and no row of those has lost its chunk.
HALVES = (
    "SELECT number FROM documents WHERE num_chunks !="
    " (SELECT count(*) FROM chunks WHERE chunks.document = documents.number)",
    "SELECT number FROM chunks WHERE number NOT IN (SELECT chunk FROM vectors)",
    "SELECT chunk FROM vectors WHERE chunk NOT IN (SELECT number FROM chunks)",
)

# The last acknowledged version and number of chunks of each document, by name.
Acknowledged = dict[str, tuple[str, int]]


def read_lines(lines: list[str]) -> Acknowledged:
    told: Acknowledged = {}
    for line in lines:
        name, version, num_chunks = line.split()
        told[name] = (version, int(num_chunks))
    return told


def check_file(path: Path) -> None:
    """Check that the tables and the index of words agree."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for halves in HALVES:
            assert connection.execute(halves).fetchall() == []
        # Raises where the index is not that of the chunks.
        connection.execute(
            "INSERT INTO chunk_words (chunk_words, rank) VALUES ('integrity-check', 1)"
        )


async def check_document(store: SqlDocuments, document: Document) -> None:
    """Check that a document is one version as a whole, and is found by what it says."""
    name, version = document.summary.name, document.summary.metadata["version"]
    for number, chunk in enumerate(document.chunks):
        word = word_of(name, version, number)
        assert set(chunk.text.split()) == {word}
        [found] = await store.search_words(OWNER, word, 2)
        assert found.chunk == chunk
    assert len(document.chunks) == document.summary.num_chunks


async def check_whole(path: Path, acknowledged: Acknowledged) -> None:
    """Check that nothing acknowledged is lost, and nothing that is there is half written."""
    check_file(path)
    database = SqliteDatabase(path)
    store = SqlDocuments(database, Fts5Index())
    try:
        listed = {one.name: one for one in await store.list_documents(OWNER, limit=MAX_DOCUMENTS)}
        for name, (version, num_chunks) in acknowledged.items():
            summary = listed.get(name)
            if summary is None:
                assert version in {DELETING, DELETED}, name
                continue
            await check_document(store, await store.read(OWNER, summary.document_id))
            assert version != DELETED
            if version != DELETING:
                # At most one version was stored and not yet told of.
                stored = int(summary.metadata["version"])
                assert stored in {int(version), int(version) + 1}
                assert stored != int(version) or summary.num_chunks == num_chunks
        vector = np.ones(DIMENSIONS, dtype=np.float32)
        num_chunks = sum(one.num_chunks for one in listed.values())
        assert len(await store.search_vectors(OWNER, vector, MODEL, 10**6)) == num_chunks
    finally:
        await database.close()


@pytest.mark.parametrize(
    "num_kills", [8, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
async def test_no_document_is_lost_once_acknowledged_and_none_is_half_written(
    tmp_path: Path, num_kills: int
) -> None:
    random_ = random.Random(SEED)  # noqa: S311 - not for secrets
    path = tmp_path / "sessions.sqlite3"
    acknowledged: Acknowledged = {}

    for run in range(num_kills):
        lines = write_and_kill(
            "tests.document_writer",
            path,
            run,
            num_lines=random_.randint(1, MAX_LINES_BEFORE),
            delay_s=random_.uniform(0, MAX_DELAY_S),
        )
        told = read_lines(lines)
        assert told
        acknowledged |= told
        await check_whole(path, told)

    await check_whole(path, acknowledged)
