from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_orch.core.errors import SessionLimitError, SessionNotFoundError
from mm_orch.storage import sql_sessions
from mm_orch.storage.sessions import MAX_MESSAGE_BYTES
from tests.unit.storage.scene import OWNER, count_rows, fill, open_store, texts_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mm_orch.storage.sql_sessions import SqlSessions
    from tests.unit.storage.scene import Place

BIG = 10**6


async def test_a_session_is_read_as_it_was_written_also_by_the_next_process(
    place: Place,
) -> None:
    async with open_store(place) as store:
        await fill(store, "s1", 3)
        before = await store.read(OWNER, "s1")

    async with open_store(place) as store:
        after = await store.read(OWNER, "s1")

    assert after == before
    assert texts_of(after) == [(f"question {n} of s1", f"answer {n}") for n in range(3)]
    assert (after.created_at, after.updated_at) == (1000, 1002)
    ids = [m.message_id for turn in after.turns for m in (turn.user, turn.assistant)]
    assert len(set(ids)) == 6


async def test_appending_tells_the_number_of_turns_and_the_answers_id(place: Place) -> None:
    async with open_store(place) as store:
        first = await store.append_turn(OWNER, "s", question="a", answer="b", is_new=True)
        second = await store.append_turn(OWNER, "s", question="c", answer="d", is_new=False)
        session = await store.read(OWNER, "s")

    assert (first.num_turns, second.num_turns) == (1, 2)
    assert second.message_id == session.turns[1].assistant.message_id


async def test_the_last_turns_are_recalled_within_the_bytes_asked_for(place: Place) -> None:
    async with open_store(place) as store:
        await fill(store, "s", 5)
        whole = await store.recall(OWNER, "s", max_bytes=BIG)
        end = await store.recall(OWNER, "s", max_bytes=30)
        last = await store.recall(OWNER, "s", max_bytes=1)
        new = await store.recall(OWNER, None, max_bytes=BIG)

    assert [one.num_turns for one in (whole, end, last, new)] == [5, 5, 5, 0]
    assert [turn.user.content[:10] for turn in whole.turns] == [f"question {n}" for n in range(5)]
    # Each turn has 23 bytes.
    assert (end.turns, last.turns, new.turns) == (whole.turns[3:], whole.turns[4:], ())


ASKING: dict[str, Callable[[SqlSessions, str], Awaitable[object]]] = {
    "read": lambda store, owner: store.read(owner, "s"),
    "recall": lambda store, owner: store.recall(owner, "s", max_bytes=BIG),
    "append": lambda store, owner: store.append_turn(
        owner, "s", question="a", answer="b", is_new=False
    ),
    "delete": lambda store, owner: store.delete(owner, "s"),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
async def test_another_owner_is_told_that_there_is_no_such_session(
    place: Place, ask: Callable[[SqlSessions, str], Awaitable[object]]
) -> None:
    async with open_store(place) as store:
        await fill(store, "s", 1)

        with pytest.raises(SessionNotFoundError, match="There is no session 's'"):
            await ask(store, "name:bob")

        assert await store.list_sessions("name:bob", limit=9) == ()
        assert len((await store.read(OWNER, "s")).turns) == 1


async def test_sessions_are_listed_by_their_last_change_and_forgotten_when_deleted(
    place: Place,
) -> None:
    async with open_store(place) as store:
        for name in ("a", "b", "c"):
            await fill(store, name, 1)
        await store.append_turn(OWNER, "a", question="q", answer="r", is_new=False)
        listed = await store.list_sessions(OWNER, limit=2)
        await store.delete(OWNER, "a")
        left = await store.list_sessions(OWNER, limit=9)
        num_messages = await count_rows(store, "messages")

    assert [(one.session_id, one.num_turns) for one in listed] == [("a", 2), ("c", 1)]
    assert [one.session_id for one in left] == ["c", "b"]
    assert num_messages == 4


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_comes_back_as_it_was(place: Place, question: str, answer: str) -> None:
    async def keep_and_read() -> list[tuple[str, str]]:
        async with open_store(place) as store:
            session_id = sql_sessions.new_message_id()
            await store.append_turn(
                OWNER, session_id, question=question, answer=answer, is_new=True
            )
            return texts_of(await store.read(OWNER, session_id))

    assert asyncio.run(keep_and_read()) == [(question, answer)]


async def test_no_more_is_stored_than_the_bounds_allow(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_sessions, "MAX_TURNS", 2)
    monkeypatch.setattr(sql_sessions, "MAX_SESSIONS", 2)
    async with open_store(place) as store:
        await fill(store, "full", 2)
        await store.append_turn(OWNER, "heavy", question="x" * 90, answer="", is_new=True)
        [heavy] = (await store.read(OWNER, "heavy")).turns
        # Room for a second turn with ten bytes of text.
        room = heavy.num_bytes + (heavy.num_bytes - 90) + 10
        monkeypatch.setattr(sql_sessions, "MAX_SESSION_BYTES", room)

        for refused in (
            store.recall(OWNER, "full", max_bytes=BIG),
            store.append_turn(OWNER, "full", question="", answer="", is_new=False),
            store.append_turn(OWNER, "heavy", question="y" * 11, answer="", is_new=False),
            store.append_turn(OWNER, "third", question="", answer="", is_new=True),
            store.append_turn("name:bob", "long", question="x" * room, answer="", is_new=True),
            store.recall(OWNER, None, max_bytes=BIG),
            store.append_turn(
                OWNER, "heavy", question="x" * (MAX_MESSAGE_BYTES + 1), answer="", is_new=False
            ),
        ):
            with pytest.raises(SessionLimitError):
                await refused
        # Others have their own.
        await fill(store, "full", 1, owner="name:bob")

        await store.append_turn(OWNER, "heavy", question="y" * 10, answer="", is_new=False)
        kept = await store.read(OWNER, "heavy")
    assert texts_of(kept) == [("x" * 90, ""), ("y" * 10, "")]


async def test_two_processes_may_go_on_with_one_session(place: Place) -> None:
    async with open_store(place) as first, open_store(place) as second:
        await fill(first, "s", 1)
        await asyncio.gather(
            *(
                store.append_turn(OWNER, "s", question=str(number), answer="", is_new=False)
                for number in range(20)
                for store in (first, second)
            )
        )
        session = await first.read(OWNER, "s")

    assert len(session.turns) == 41
    told = sorted(turn.user.content for turn in session.turns[1:])
    assert told == sorted(str(number) for number in range(20) for _ in "12")
