"""Files of every older version come to the newest with all they hold, or stay as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import StorageError
from mm_orch.storage.sqlite_schema import MIGRATIONS
from tests.unit.storage.document_scene import new_document, open_documents, passage, vector_of
from tests.unit.storage.scene import FILE, OWNER, fill, open_store, texts_of

if TYPE_CHECKING:
    from pathlib import Path

# What a program of each version wrote: one session "old" of one turn. Version 0 is no file at all.
WRITTEN_BY_VERSION: dict[int, tuple[str, ...]] = {
    0: (),
    1: (
        "INSERT INTO sessions VALUES (7, 'name:alice', 'old', 5.0, 6.0, 1, 2)",
        "INSERT INTO messages VALUES (7, 0, 'user', 'msg-a', 'q', 5.0)",
        "INSERT INTO messages VALUES (7, 0, 'assistant', 'msg-b', 'r', 6.0)",
    ),
}
# ... and from version 2 on one document of one chunk.
WRITTEN_BY_VERSION[2] = (
    *WRITTEN_BY_VERSION[1],
    "INSERT INTO documents VALUES (3, 'name:alice', 'document-0123456789abcdef0123456789abcdef',"
    " 'old.md', 'text/markdown', 4, 'd', '{\"a\":1}', 64, 8, 'vectors', 5.0, 1, 99)",
    "INSERT INTO chunks VALUES (9, 3, 0, '7e8e2d7833a2eb0f192f17c03511df18', 'Title',"
    " 'herons nest', '', 2, 13, NULL)",
    "INSERT INTO vectors VALUES (9, x'0000803f00000000')",
)


def write_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        for statement in WRITTEN_BY_VERSION[version]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        return int(version)


def test_every_version_has_something_that_it_wrote() -> None:
    assert sorted(WRITTEN_BY_VERSION) == list(range(len(MIGRATIONS) + 1))


@pytest.mark.parametrize("version", WRITTEN_BY_VERSION)
async def test_a_file_of_an_older_version_is_brought_to_the_newest(
    tmp_path: Path, version: int
) -> None:
    write_version(tmp_path / FILE, version)

    async with open_store(tmp_path) as store:
        old = [texts_of(await store.read(OWNER, "old"))] if version else []
        await fill(store, "new", 2)
        new = await store.read(OWNER, "new")

    assert old == ([[("q", "r")]] if version else [])
    assert len(new.turns) == 2
    assert version_of(tmp_path / FILE) == len(MIGRATIONS)


@pytest.mark.parametrize("version", WRITTEN_BY_VERSION)
async def test_documents_are_kept_in_a_file_of_every_version(tmp_path: Path, version: int) -> None:
    write_version(tmp_path / FILE, version)

    async with open_documents(tmp_path) as store:
        old = [one.chunk.text for one in await store.search_words(OWNER, "nesting heron", 9)]
        near = await store.search_vectors(OWNER, vector_of(1, 0), "vectors", 9)
        await store.add(OWNER, new_document(), [passage("a wren sings")], None)
        new = [one.chunk.text for one in await store.search_words(OWNER, "wren", 9)]

    assert old == (["herons nest"] if version >= 2 else [])
    assert [one.document_metadata for one in near] == ([{"a": 1}] if version >= 2 else [])
    assert new == ["a wren sings"]


async def test_the_next_version_finds_what_this_one_wrote(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
    following = (*MIGRATIONS, ("ALTER TABLE sessions ADD COLUMN title TEXT",))

    async with open_store(tmp_path, migrations=following) as store:
        assert len((await store.read(OWNER, "s")).turns) == 1

    assert version_of(tmp_path / FILE) == len(MIGRATIONS) + 1


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
    broken = (*MIGRATIONS, ("CREATE TABLE more (a)", "DROP TABLE messages", "NONSENSE"))

    async with open_store(tmp_path, migrations=broken) as store:
        with pytest.raises(StorageError, match="NONSENSE"):
            await store.read(OWNER, "s")

    assert version_of(tmp_path / FILE) == len(MIGRATIONS)
    async with open_store(tmp_path) as store:
        assert len((await store.read(OWNER, "s")).turns) == 1


async def test_a_newer_programs_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    write_version(tmp_path / FILE, len(MIGRATIONS))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")

    async with open_store(tmp_path) as store:
        with pytest.raises(StorageError, match="are of version 99; this program knows versions"):
            await store.read(OWNER, "old")

    assert version_of(tmp_path / FILE) == 99
