"""Stored conversations out of one server, or key, and into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.api.schemas import workflow_answers as shapes
from mm_orch.api.session_exchange import IMPORT_PATH, ImportPlaces
from mm_orch.api.settings import ApiSettings
from mm_orch.core.errors import QueueFullError
from mm_orch.core.events import RequestFinished
from mm_orch.storage.json_lines import MIN_IMPORT_BYTES
from tests.unit.api.face import Face, assert_fits
from tests.unit.api.served import call, serve
from tests.unit.api.test_sessions import KEYS

if TYPE_CHECKING:
    from mm_orch.storage.sql_sessions import SqlSessions

HEAD = b'{"format":"muai-sessions","version":1}\n'


async def test_sessions_leave_with_one_key_and_come_with_another(store: SqlSessions) -> None:
    face = Face(settings=ApiSettings(enable_auth=True, api_keys=KEYS), sessions=store)
    session_id = (await face.post("/api/chat", "sk-first", message="Hi")).json()["session_id"]
    taking = {"X-API-Key": "sk-second"}

    left = await face.call("GET", "/api/export/sessions", headers={"X-API-Key": "sk-first"})
    came, again = [
        await face.call("POST", "/api/import/sessions", headers=taking, content=left.content)
        for _ in range(2)
    ]

    assert left.headers["content-type"].startswith("application/x-ndjson")
    assert left.text.count("\n") == 2
    for answer, told in ((came, (1, 0)), (again, (0, 1))):
        assert_fits(answer.json(), shapes.ImportAnswer)
        assert tuple(answer.json().values()) == told
    shown = await face.call("GET", f"/api/sessions/{session_id}", headers=taking)
    assert [one["content"] for one in shown.json()["messages"]] == ["Hi", "Hello world"]


async def test_an_import_that_is_none_is_refused_with_the_line(store: SqlSessions) -> None:
    face = Face(sessions=store)

    answers = [
        await face.call("POST", "/api/import/sessions", content=content)
        for content in (b"", b"{}", b'{"format":"muai-sessions","version":1}\nx\n')
    ]

    assert [one.status_code for one in answers] == [400] * 3
    assert "Line 2 is no session" in answers[2].json()["error"]["message"]


async def test_an_export_that_cannot_begin_has_the_status_of_its_error() -> None:
    response = await Face().call("GET", "/api/export/sessions")

    assert (response.status_code, response.json()["error"]["code"]) == (500, "storage_failed")
    assert "sessions.sqlite3 cannot be used: File exists." in response.text
    assert "/dev" not in response.text


async def test_a_second_import_of_a_caller_is_to_wait_for_the_first(store: SqlSessions) -> None:
    face = Face(sessions=store)
    async with serve(face.app) as port, call(port) as slow, call(port) as quick:
        slow.send_head(IMPORT_PATH, f"Content-Length: {len(HEAD)}", "Expect: 100-continue")
        # It is told to go on when its body is asked for.
        assert (await slow.read_head()).status == 100

        quick.send(IMPORT_PATH, HEAD)
        refused = await quick.read_reply()
        slow.writer.write(HEAD)
        taken = await slow.read_reply()
        quick.send(IMPORT_PATH, HEAD)
        again = await quick.read_reply()

    assert (refused.status, refused.json["error"]["code"]) == (503, "queue_full")
    assert refused.headers["retry-after"] == "1"
    assert (taken.status, again.status) == (200, 200)


def test_few_callers_import_at_the_same_time() -> None:
    places = ImportPlaces()
    with places.take("a"), places.take("b"), places.take("c"):
        with places.take("d"), pytest.raises(QueueFullError, match="4 imports are under way"):
            places.take("e").__enter__()
        with places.take("e"):
            pass


async def test_imports_count_for_the_rate_and_are_none_of_the_models_requests(
    store: SqlSessions,
) -> None:
    face = Face(settings=ApiSettings(rate_limit_per_minute=1), sessions=store)

    answers = [await face.call("POST", IMPORT_PATH, content=HEAD) for _ in range(2)]

    assert [one.status_code for one in answers] == [200, 429]
    assert answers[1].headers["retry-after"] == "60"
    assert not [one for one in face.observer.events if isinstance(one, RequestFinished)]


async def test_any_session_can_be_taken_in_again_however_small_requests_are(
    store: SqlSessions,
) -> None:
    text = "\x01" * 600_000
    await store.append_turn("name:one", "s", question=text, answer=text, is_new=True)
    settings = ApiSettings(enable_auth=True, api_keys=KEYS, max_request_bytes=1000)
    face = Face(settings=settings, sessions=store)

    left = await face.call("GET", "/api/export/sessions", headers={"X-API-Key": "sk-first"})
    taking = {"X-API-Key": "sk-second"}
    came = await face.call("POST", IMPORT_PATH, headers=taking, content=left.content)
    more = await face.call("POST", IMPORT_PATH, headers=taking, content=b" " * MIN_IMPORT_BYTES)
    over = await face.call(
        "POST", IMPORT_PATH, headers=taking, content=b" " * (MIN_IMPORT_BYTES + 1)
    )
    query = await face.post("/api/query", "sk-second", query="x" * 1000)

    assert len(left.content) > 7 * 10**6
    assert (came.status_code, came.json()["sessions_added"]) == (200, 1)
    assert [one.status_code for one in (more, over, query)] == [400, 413, 413]
