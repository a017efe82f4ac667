"""What one kind of database exported the other takes, and nothing of it is changed on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.storage.document_scene import (
    MODEL,
    as_vectors,
    open_documents,
    store_texts,
    texts_of,
    vector_of,
)
from tests.unit.storage.scene import OWNER, fill, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.storage.scene import Place

OTHER = "name:bob"


@pytest.mark.parametrize("is_back", [False, True])
async def test_sessions_move_to_a_database_and_back(
    tmp_path: Path, database_url: str, *, is_back: bool
) -> None:
    giver, taker = places(tmp_path, database_url, is_back=is_back)
    async with open_store(giver) as here, open_store(taker) as there:
        await fill(here, "a", 3)
        await here.append_turn(OWNER, "b", question="\0 naïve 机器", answer="\x10", is_new=True)
        lines = [line async for line in here.export(OWNER)]
        report = await there.import_lines(OTHER, lines)
        moved = [line async for line in there.export(OTHER)]

    assert report.num_added == 2
    assert moved == lines


@pytest.mark.parametrize("is_back", [False, True])
async def test_documents_move_to_a_database_and_back_with_their_vectors(
    tmp_path: Path, database_url: str, *, is_back: bool
) -> None:
    giver, taker = places(tmp_path, database_url, is_back=is_back)
    async with open_documents(giver) as here, open_documents(taker) as there:
        await store_texts(here, OWNER, "a.md", ["a heron", "a wren"], as_vectors((3, 4), (1, 0)))
        await store_texts(here, OWNER, "b.md", ["\0 a rook"], metadata={"x": [1, None, "\0"]})
        lines = [line async for line in here.export(OWNER)]
        report = await there.import_lines(OTHER, lines)
        moved = [line async for line in there.export(OTHER)]
        by_words = texts_of(await there.search_words(OTHER, "herons", 9))
        [nearest, _] = await there.search_vectors(OTHER, vector_of(3, 4), MODEL, 9)

    assert report.num_added == 2
    assert moved == lines
    assert by_words == [nearest.chunk.text] == ["a heron"]


def places(directory: Path, url: str, *, is_back: bool) -> tuple[Place, Place]:
    return (url, directory) if is_back else (directory, url)
