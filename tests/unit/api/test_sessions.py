"""Stored conversations over HTTP: begun, gone on with, shown and deleted by their owner alone."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

from mm_orch.api import sessions as sessions_module
from mm_orch.api.schemas import workflow_answers as shapes
from mm_orch.api.settings import ApiKey, ApiSettings
from tests.unit.api.face import Face, assert_fits, turns_asked
from tests.unit.api.scripted_generator import ScriptedGenerator, say
from tests.unit.storage.scene import FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from mm_orch.storage.sql_sessions import SqlSessions

KEYS = (
    ApiKey(name="one", key="sk-first"),
    ApiKey(name="two", key="sk-second"),
    ApiKey(name="key-3", key="sk-third", has_own_name=False),
)


async def test_a_message_begins_a_session_and_the_next_goes_on_with_it(
    store: SqlSessions,
) -> None:
    face = Face(ScriptedGenerator(scripts=[say("Hel", "lo"), say("Paris")]), sessions=store)

    first = await face.post("/api/chat", message="Hi")
    second = await face.post("/api/chat", message="France?", session_id=first.json()["session_id"])

    assert (first.status_code, second.status_code) == (200, 200)
    assert_fits(first.json(), shapes.MessageAnswer)
    assert [one.json()["response"] for one in (first, second)] == ["Hello", "Paris"]
    assert [one.json()["turn_count"] for one in (first, second)] == [1, 2]
    assert first.json()["session_id"] == second.json()["session_id"]
    assert first.json()["message_id"] != second.json()["message_id"]
    assert first.headers["x-muai-model"] == "small"
    assert turns_asked(face) == [
        [("user", "Hi")],
        [("user", "Hi"), ("assistant", "Hello"), ("user", "France?")],
    ]
    # What is left in the KV cache bears the session's name.
    named = {request.conversation_id for request in face.generator.requests}
    assert named == {f"/{first.json()['session_id']}"}


async def test_a_session_belongs_to_the_key_that_began_it(store: SqlSessions) -> None:
    face = Face(settings=ApiSettings(enable_auth=True, api_keys=KEYS), sessions=store)
    begun = await face.post("/api/chat", "sk-first", message="Hi")
    session_id = begun.json()["session_id"]

    answers = [
        await face.post(path, "sk-second", session_id=session_id, **body)
        for path, body in (("/api/chat", {"message": "Hi"}), ("/api/query", {"query": "Hi"}))
    ]
    answers += [
        await face.call(method, f"/api/sessions/{session_id}", headers={"X-API-Key": "sk-third"})
        for method in ("GET", "DELETE")
    ]

    assert [one.status_code for one in answers] == [404] * 4
    errors = [one.json()["error"] for one in answers]
    assert {error["code"] for error in errors} == {"session_not_found"}
    # Only one of these paths begins any.
    assert {error["message"] for error in errors} == {f"There is no session {session_id!r}."}
    assert len(face.generator.requests) == 1
    own = await face.call("GET", "/api/sessions", headers={"X-API-Key": "sk-first"})
    assert [one["session_id"] for one in own.json()["sessions"]] == [session_id]


async def test_the_store_knows_keys_by_what_stays_and_never_by_the_key(
    store: SqlSessions, tmp_path: Path
) -> None:
    face = Face(settings=ApiSettings(enable_auth=True, api_keys=KEYS), sessions=store)
    for key in ("sk-first", "sk-third"):
        await face.post("/api/chat", key, message="Hi")
    # Another key before it has given it another number.
    moved = (ApiKey(name="key-9", key="sk-third", has_own_name=False),)
    later = Face(settings=ApiSettings(enable_auth=True, api_keys=moved), sessions=store)

    listed = await later.call("GET", "/api/sessions", headers={"X-API-Key": "sk-third"})

    assert len(listed.json()["sessions"]) == 1
    with sqlite3.connect(tmp_path / FILE) as connection:
        owners = {owner for [owner] in connection.execute("SELECT owner FROM sessions")}
    assert "name:one" in owners
    assert not [owner for owner in owners if "sk-" in owner or "key-3" in owner]


async def test_sessions_that_cannot_be_stored_are_an_error_and_the_rest_goes_on() -> None:
    face = Face()

    chat = await face.post("/api/chat", message="Hi")
    query = await face.post("/api/query", query="Hi")

    assert (chat.status_code, chat.json()["error"]["code"]) == (500, "storage_failed")
    assert query.status_code == 200


async def test_a_session_is_shown_and_deleted_with_its_kv_memory(store: SqlSessions) -> None:
    face = Face(sessions=store)
    session_id = (await face.post("/api/chat", message="Hi")).json()["session_id"]
    path = f"/api/sessions/{session_id}"

    listed = await face.call("GET", "/api/sessions?limit=5")
    shown = await face.call("GET", path)
    deleted = await face.call("DELETE", path)
    gone = await face.call("GET", path)

    assert_fits(listed.json(), shapes.SessionList)
    assert_fits(shown.json(), shapes.WholeSessionAnswer)
    assert_fits(deleted.json(), shapes.ForgottenAnswer)
    assert [(one["role"], one["content"]) for one in shown.json()["messages"]] == [
        ("user", "Hi"),
        ("assistant", "Hello world"),
    ]
    assert gone.status_code == 404
    assert face.generator.released == [face.generator.requests[0].conversation_id]


async def test_sessions_are_listed_in_parts(store: SqlSessions) -> None:
    face = Face(sessions=store)
    begun = [(await face.post("/api/chat", message="Hi")).json()["session_id"] for _ in range(3)]

    part = await face.call("GET", "/api/sessions?limit=1&offset=1")
    refused = [
        await face.call("GET", f"/api/sessions?{query}")
        for query in ("limit=0", "limit=1001", "offset=-1", "offset=10001")
    ]

    assert [one["session_id"] for one in part.json()["sessions"]] == [begun[1]]
    assert [one.status_code for one in refused] == [400] * 4


async def test_large_answers_are_written_in_a_thread_of_their_own(
    store: SqlSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    for name in ("_as_list", "_as_whole"):
        describe = getattr(sessions_module, name)

        def note(found: object, describe: Callable[[object], object] = describe) -> object:
            threads.add(threading.get_ident())
            return describe(found)

        monkeypatch.setattr(sessions_module, name, note)
    face = Face(sessions=store)
    session_id = (await face.post("/api/chat", message="Hi")).json()["session_id"]

    for path in ("/api/sessions", f"/api/sessions/{session_id}"):
        assert (await face.call("GET", path)).status_code == 200

    assert threads
    assert threading.get_ident() not in threads
