"""Sessions out of one store and into another."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import InvalidValueError, SessionLimitError
from mm_orch.storage import json_lines, sql_sessions
from mm_orch.storage.json_lines import MAX_LINE_BYTES, MIN_IMPORT_BYTES
from mm_orch.storage.sessions import MAX_MESSAGE_BYTES, MAX_SESSION_BYTES
from tests.unit.storage.scene import OWNER, fill, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions
    from tests.unit.storage.scene import Place

# Nothing here takes so long; it ends a test that would hang.
PATIENCE_S = 20
HEAD = b'{"format":"muai-sessions","version":1}\n'
MESSAGE = {"message_id": "m", "content": "c", "created_at": 1.0}
LINE = {
    "session_id": "s",
    "created_at": 1.0,
    "updated_at": 2.0,
    "turns": [{"user": MESSAGE, "assistant": MESSAGE}],
}


async def export(store: SqlSessions, owner: str = OWNER) -> list[bytes]:
    return [line async for line in store.export(owner)]


async def test_what_was_exported_is_imported_again_by_any_owner(place: Place) -> None:
    async with open_store(place) as store:
        for name in ("a", "b"):
            await fill(store, name, 3)
        await fill(store, "hidden", 1, owner="name:bob")
        lines = await export(store)
        own = await store.import_lines("name:carol", lines)
        again = await store.import_lines("name:carol", lines)

        assert (own.num_added, own.num_known) == (2, 0)
        assert (again.num_added, again.num_known) == (0, 2)
        for name in ("a", "b"):
            assert await store.read("name:carol", name) == await store.read(OWNER, name)
    assert lines[0] == HEAD
    assert [json.loads(line)["session_id"] for line in lines[1:]] == ["b", "a"]
    assert b"hidden" not in b"".join(lines)
    assert b"alice" not in b"".join(lines)


def line_of(**fields: object) -> bytes:
    return json.dumps({**LINE, **fields}).encode()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "The import is empty"),
        ([b"{}"], "Line 1 is no head of muai-sessions"),
        ([b"", b"{}"], "Line 2 is no head of muai-sessions"),
        ([HEAD[:-2] + b',"x":' + b"[" * 10**5], "Line 1 is no head.*unknown field `x`"),
        ([b'{"format":"muai-sessions","version":2}'], "muai-sessions version 2; this program"),
        ([HEAD, b"nonsense"], "Line 2 is no session"),
        ([HEAD, b"\xff\xfe"], "Line 2 is no session"),
        ([HEAD, line_of(turns=[])], "Line 2 is no session.*length >= 1"),
        ([HEAD, line_of(session_id="a b")], "Line 2 is no session.*session_id"),
        ([HEAD, line_of(session_id="a\n")], "Line 2 is no session.*session_id"),
        ([HEAD, line_of(owner="name:bob")], "Line 2 is no session.*unknown field `owner`"),
        ([HEAD, line_of(turns=[{"user": MESSAGE}])], "missing required field `assistant`"),
        ([HEAD, line_of(), b"", line_of(created_at=9.0), line_of(turns="x")], "Line 5 is no"),
        (
            [HEAD, line_of(), line_of(turns=[LINE["turns"][0]] * 2)],  # type: ignore[index]  # a list
            "The session s is there already, with other turns",
        ),
    ],
)
async def test_an_import_with_a_fault_imports_nothing_and_says_where_it_is(
    place: Place, lines: list[bytes], words: str
) -> None:
    async with open_store(place) as store:
        with pytest.raises(InvalidValueError, match=words):
            await store.import_lines(OWNER, lines)

        assert await store.list_sessions(OWNER, limit=9) == ()


async def test_an_import_over_the_bounds_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {**MESSAGE, "content": "x" * (MAX_MESSAGE_BYTES + 1)}
    async with open_store(place) as store:
        with pytest.raises(SessionLimitError, match="The answer of line 2 has 1048577 bytes"):
            await store.import_lines(
                OWNER, [HEAD, line_of(turns=[{"user": MESSAGE, "assistant": long}])]
            )
        monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 10)
        with pytest.raises(InvalidValueError, match="Line 1 has 39 bytes; at most 10 are taken"):
            await store.import_lines(OWNER, [HEAD])


async def test_the_largest_session_comes_back_in_and_takes_no_more(place: Place) -> None:
    # JSON spells each of these bytes with six.
    text = "\x01" * (MAX_SESSION_BYTES // 12 - 200)
    async with open_store(place) as store:
        await store.append_turn(OWNER, "s", question=text, answer=text, is_new=True)
        with pytest.raises(SessionLimitError, match="at most 10000 turns and 8388608 bytes"):
            await store.append_turn(OWNER, "s", question=text, answer="", is_new=False)
        lines = await export(store)
        report = await store.import_lines("name:carol", lines)

    assert MAX_SESSION_BYTES - 5000 < len(lines[1]) <= MAX_LINE_BYTES
    assert sum(map(len, lines)) <= MIN_IMPORT_BYTES
    assert report.num_added == 1


async def test_a_session_of_an_import_is_bounded_as_every_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "MAX_SESSION_BYTES", 100)
    async with open_store(place) as store:
        with pytest.raises(SessionLimitError, match="The session of line 2 has"):
            await store.import_lines(OWNER, [HEAD, line_of()])


async def test_a_wrong_import_is_refused_without_the_thread_that_all_writes_wait_for(
    place: Place,
) -> None:
    is_free = threading.Event()
    async with open_store(place) as store:
        waiting = asyncio.create_task(store._database.write(lambda _: is_free.wait(PATIENCE_S)))
        try:
            with pytest.raises(InvalidValueError, match="Line 3 is no session"):
                await store.import_lines(OWNER, [HEAD, line_of(), b"nonsense"])
            assert not waiting.done()
        finally:
            is_free.set()
            await waiting


async def test_an_import_counts_the_owners_sessions_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    lines = [HEAD, *(line_of(session_id=f"s{number}") for number in range(20))]
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        await store._database.write(
            lambda connection: connection.set_trace_callback(statements.append)
        )
        await store.import_lines(OWNER, lines)

        monkeypatch.setattr(sql_sessions, "MAX_SESSIONS", 22)
        more = [HEAD, *(line_of(session_id=f"t{number}") for number in range(2))]
        with pytest.raises(SessionLimitError, match="22 sessions are stored"):
            await store.import_lines(OWNER, more)
        assert len(await store.list_sessions(OWNER, limit=50)) == 21

    assert len([one for one in statements if "count(*)" in one]) == 2


async def test_sessions_are_listed_in_parts(place: Place) -> None:
    async with open_store(place) as store:
        for number in range(5):
            await fill(store, f"s{number}", 1)
        parts = [await store.list_sessions(OWNER, limit=2, offset=first) for first in (0, 2, 4, 6)]

    assert [[one.session_id for one in part] for part in parts] == [
        ["s4", "s3"],
        ["s2", "s1"],
        ["s0"],
        [],
    ]
