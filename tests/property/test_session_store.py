"""Any calls in any order: the store answers as a dictionary by owner and session would."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_orch.core.errors import InvalidValueError, SessionNotFoundError
from tests.unit.storage.scene import Place, forget_all, open_store

OWNERS = st.sampled_from(["", "name:alice", "key:bob"])
NAMES = st.sampled_from(["s1", "s2", "s3"])
TEXTS = st.text(max_size=20)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), OWNERS, NAMES, TEXTS, TEXTS),
        st.tuples(st.just("delete"), OWNERS, NAMES),
        st.tuples(st.just("move"), OWNERS, OWNERS),
        st.tuples(st.just("open again")),
    ),
    max_size=25,
)

Turns = list[tuple[str, str, str]]
"""Question, answer, and the answer's id, which no other has."""


@dataclass
class Model:
    """What the store must hold."""

    turns: dict[tuple[str, str], Turns] = field(default_factory=dict)

    def of(self, owner: str) -> dict[str, Turns]:
        return {name: turns for (one, name), turns in self.turns.items() if one == owner}


class Check:
    """The store and its model, told the same."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.model = Model()

    async def run(self, calls: list[tuple[str, ...]]) -> None:
        rest = list(calls)
        while True:
            async with open_store(self.place) as self.store:
                while rest and rest[0][0] != "open again":
                    await self._perform(*rest.pop(0))
                await self._compare()
            if not rest:
                return
            rest.pop(0)

    async def _perform(self, kind: str, *values: str) -> None:
        match kind, *values:
            case "append", owner, name, question, answer:
                turns = self.model.turns.setdefault((owner, name), [])
                kept = await self.store.append_turn(
                    owner, name, question=question, answer=answer, is_new=not turns
                )
                turns.append((question, answer, kept.message_id))
                assert kept.num_turns == len(turns)
            case "delete", owner, name:
                if self.model.turns.pop((owner, name), None) is None:
                    with pytest.raises(SessionNotFoundError):
                        await self.store.delete(owner, name)
                else:
                    await self.store.delete(owner, name)
            case "move", giver, taker:
                await self._move(giver, taker)

    async def _move(self, giver: str, taker: str) -> None:
        """Import what one owner has for another: all of it, or nothing."""
        lines = [line async for line in self.store.export(giver)]
        given, had = self.model.of(giver), self.model.of(taker)
        if any(had[name] != given[name] for name in given.keys() & had.keys()):
            with pytest.raises(InvalidValueError):
                await self.store.import_lines(taker, lines)
            return
        report = await self.store.import_lines(taker, lines)
        assert report.num_known == len(given.keys() & had.keys())
        assert report.num_added == len(given.keys() - had.keys())
        for name, turns in given.items():
            self.model.turns[taker, name] = list(turns)

    async def _compare(self) -> None:
        for owner in ("", "name:alice", "key:bob"):
            expected = self.model.of(owner)
            listed = await self.store.list_sessions(owner, limit=9)
            assert {one.session_id: one.num_turns for one in listed} == {
                name: len(turns) for name, turns in expected.items()
            }
            for name, turns in expected.items():
                session = await self.store.read(owner, name)
                recalled = await self.store.recall(owner, name, max_bytes=10**6)
                assert [
                    (turn.user.content, turn.assistant.content, turn.assistant.message_id)
                    for turn in session.turns
                ] == turns
                assert recalled.turns == session.turns


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(CALLS)
def test_the_store_is_a_dictionary_by_owner_and_session(calls: list[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(Check(Path(directory)).run(calls))


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=12,
)
@given(CALLS)
def test_a_database_is_such_a_dictionary_too(
    database_url: str, calls: list[tuple[str, ...]]
) -> None:
    forget_all(database_url)
    asyncio.run(Check(database_url).run(calls))
