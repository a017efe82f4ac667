"""Any calls in any order: the store answers as a dictionary by owner and file would."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_orch.core.errors import InvalidValueError
from tests.unit.storage.document_scene import (
    MODEL,
    new_document,
    open_documents,
    passage,
    texts_of,
    vector_of,
)
from tests.unit.storage.scene import Place, forget_all

OWNERS = ("", "name:alice", "key:bob")
OWNER = st.sampled_from(OWNERS)
WORDS = ("heron", "wren", "\u6c34\u9e1f", "E-17")
# What each chunk says.
CHUNKS = st.lists(st.sampled_from(WORDS), max_size=4).map(tuple)
FILES = st.tuples(st.sampled_from(["a.md", "b.md"]), st.sampled_from(["content", "other"]))
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), OWNER, FILES, CHUNKS, st.booleans()),
        st.tuples(st.just("delete"), OWNER, FILES),
        st.tuples(st.just("move"), OWNER, OWNER),
        st.tuples(st.just("open again")),
    ),
    max_size=20,
)

File = tuple[str, str]
Stored = tuple[str, tuple[str, ...], bool]
"""The document's id, its chunks, and whether these have vectors."""


class Check:
    """The store and a dictionary, told the same."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.model: dict[tuple[str, File], Stored] = {}

    async def run(self, calls: list[tuple[object, ...]]) -> None:
        rest = list(calls)
        while True:
            async with open_documents(self.place) as self.store:
                while rest and rest[0][0] != "open again":
                    await self._perform(*rest.pop(0))
                for owner in OWNERS:
                    await self._compare(owner)
            if not rest:
                return
            rest.pop(0)

    async def _perform(self, *call: object) -> None:
        match call:
            case ("add", str(owner), (str(name), str(content)), tuple(chunks), bool(has_vectors)):
                await self._add(owner, (name, content), chunks, has_vectors=has_vectors)
            case ("delete", str(owner), (str(name), str(content))):
                stored = self.model.pop((owner, (name, content)), None)
                if stored is not None:
                    await self.store.delete(owner, stored[0])
            case ("move", str(giver), str(taker)):
                await self._move(giver, taker)
            case _:
                raise AssertionError(call)

    async def _add(
        self, owner: str, file: File, chunks: tuple[str, ...], *, has_vectors: bool
    ) -> None:
        rows = [vector_of(*(word == one for one in WORDS)) for word in chunks]
        vectors = np.array(rows).reshape(len(chunks), len(WORDS)) if has_vectors else None
        document = new_document(*file, embedding_model=MODEL if has_vectors else None)
        added = await self.store.add(owner, document, [passage(one) for one in chunks], vectors)
        known = self.model.get((owner, file))
        assert added.is_new == (known is None)
        assert known is None or known[0] == added.summary.document_id
        self.model[owner, file] = (added.summary.document_id, chunks, has_vectors)

    async def _move(self, giver: str, taker: str) -> None:
        """Import what one owner has for another: what is there already stays as it is."""
        given = {file: stored for (one, file), stored in self.model.items() if one == giver}
        had = {file: stored for (one, file), stored in self.model.items() if one == taker}
        lines = [line async for line in self.store.export(giver)]
        ids = {stored[0] for stored in had.values()}
        clash = any(stored[0] in ids for file, stored in given.items() if file not in had)
        try:
            report = await self.store.import_lines(taker, lines)
        except InvalidValueError:
            assert clash
            return
        assert not clash
        assert (report.num_added, report.num_known) == (
            len(given.keys() - had),
            len(given.keys() & had),
        )
        self.model |= {(taker, file): stored for file, stored in {**given, **had}.items()}

    async def _compare(self, owner: str) -> None:
        expected = [stored for (one, _), stored in self.model.items() if one == owner]
        listed = await self.store.list_documents(owner, limit=9)
        assert sorted(one.document_id for one in listed) == sorted(one[0] for one in expected)
        assert await self.store.has_documents(owner) == bool(expected)
        for document_id, chunks, _ in expected:
            document = await self.store.read(owner, document_id)
            assert tuple(chunk.text for chunk in document.chunks) == chunks
        for place, word in enumerate(WORDS):
            having = [chunks.count(word) for _, chunks, _ in expected]
            found = await self.store.search_words(owner, word, 99)
            assert texts_of(found) == [word] * sum(having)
            near = await self.store.search_vectors(
                owner, np.eye(len(WORDS), dtype=np.float32)[place], MODEL, 99
            )
            nearest = [one.chunk.text for one in near if one.score > 1 / 2]
            assert nearest == [word] * sum(chunks.count(word) for _, chunks, has in expected if has)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CALLS)
def test_the_store_answers_as_a_dictionary_would(calls: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(Check(Path(directory)).run(calls))


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(CALLS)
def test_a_database_answers_as_such_a_dictionary_too(
    database_url: str, calls: list[tuple[object, ...]]
) -> None:
    forget_all(database_url)
    asyncio.run(Check(database_url).run(calls))
