"""What surrounds every exchange: ids, keys, sizes, origins, and what is stated of it."""

from __future__ import annotations

import logging

import pytest

from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.errors import EngineFailedError
from tests.unit.api.face import CHAT, HELLO, Face, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator, say

LOCKED = ApiSettings(
    enable_auth=True,
    api_keys=(ApiKey(name="one", key="sk-first"), ApiKey(name="two", key="sk-second")),
)
OPEN_PATHS = ["/health", "/live", "/ready", "/health/models/small", "/metrics", "/openapi.json"]
LOCKED_PATHS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/small"),
    ("GET", "/api/status"),
    ("GET", "/v1/nothing"),
    ("GET", "/api/nothing"),
    ("DELETE", "/v1/models"),
    ("DELETE", "/api/conversations/c"),
]


@pytest.mark.parametrize("given", ["a", "A.b_c:d-9", "x" * 128])
async def test_a_usable_request_id_is_echoed(given: str) -> None:
    response = await Face().call("GET", "/live", headers={"X-Request-ID": given})

    assert response.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "<a>", "a/b"])
async def test_an_unusable_request_id_is_replaced(given: str) -> None:
    response = await Face().call("GET", "/live", headers={"X-Request-ID": given})

    [told] = response.headers.get_list("x-request-id")
    assert told.startswith("req-")
    assert len(told) == len("req-") + 32


@pytest.mark.parametrize(("method", "path"), LOCKED_PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic sk-first"},
        {"Authorization": "sk-first"},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"Authorization": "Bearer sk-first2"},
        {"Authorization": "Bearer sk-firs"},
    ],
    ids=str,
)
async def test_models_and_status_need_a_key(
    method: str, path: str, headers: dict[str, str]
) -> None:
    face = Face(settings=LOCKED)

    response = await face.call(method, path, headers=headers)

    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["x-request-id"]
    assert not face.generator.requests


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer sk-first"},
        {"Authorization": "bearer sk-first"},
        {"X-API-Key": "sk-first"},
        {"x-api-key": "sk-second"},
    ],
    ids=str,
)
async def test_each_key_opens_in_either_header(headers: dict[str, str]) -> None:
    face = Face(settings=LOCKED)

    response = await face.call("POST", CHAT, HELLO, headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize("path", OPEN_PATHS)
async def test_what_watches_the_server_needs_no_key(path: str) -> None:
    assert (await Face(settings=LOCKED).call("GET", path)).status_code == 200


async def test_without_auth_a_key_does_no_harm() -> None:
    response = await Face().call("POST", CHAT, HELLO, headers={"Authorization": "Bearer any"})

    assert response.status_code == 200


async def test_keys_are_in_no_log_and_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    face = Face(settings=LOCKED)

    with caplog.at_level(logging.DEBUG):
        told = [
            (await face.call("POST", CHAT, HELLO, headers={"X-API-Key": key})).text
            for key in ("sk-first", "sk-wrong")
        ]

    assert "sk-" not in caplog.text + "".join(told)
    assert "sk-" not in repr(LOCKED)


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
async def test_a_body_over_the_limit_is_refused_by_its_announced_length(
    size: int, status: int
) -> None:
    face = Face(settings=ApiSettings(max_request_bytes=1000))
    shell = b'{"messages":[{"role":"user","content":"%s"}]}'
    content = shell % (b"x" * (size - len(shell) + 2))

    response = await face.call("POST", CHAT, content=content)

    assert len(content) == size
    assert response.status_code == status
    if status == 413:
        error = response.json()["error"]
        assert error["code"] == "request_too_large"
        assert "1000" in error["message"]


async def test_a_page_of_an_allowed_origin_may_call_and_read_our_headers() -> None:
    settings = ApiSettings(
        cors_origins=("https://page.example",), enable_auth=True, api_keys=LOCKED.api_keys
    )
    face = Face(settings=settings)
    origin = {"Origin": "https://page.example"}
    asked = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }

    before = await face.call("OPTIONS", CHAT, headers=asked)
    refused = await face.call("POST", CHAT, HELLO, headers=origin)
    stranger = await face.call("GET", "/live", headers={"Origin": "https://other.example"})

    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == "https://page.example"
    assert "POST" in before.headers["access-control-allow-methods"]
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    assert "x-muai-engine" in refused.headers["access-control-expose-headers"].lower()
    assert "access-control-allow-origin" not in stranger.headers


async def test_without_origins_nothing_is_said_about_them() -> None:
    response = await Face().call("GET", "/live", headers={"Origin": "https://page.example"})

    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("POST", "/v1/chat/completions", "/v1/chat/completions", 200),
        ("GET", "/v1/models/small", "/v1/models/{model}", 200),
        ("GET", "/v1/models/gone", "/v1/models/{model}", 404),
        ("GET", "/v1/models/org/small", "/v1/models/{model}", 200),
        ("GET", "/health/models/small", "/health/models/{name}", 200),
        ("GET", "/live", "/live", 200),
        ("GET", "/openapi.json", "/openapi.json", 200),
        ("GET", "/some/random/path", "unmatched", 404),
        ("PUT", "/v1/completions", "/v1/completions", 405),
        ("BREW", "/live", "/live", 405),
    ],
)
async def test_each_exchange_is_stated_once_with_the_paths_template(
    method: str, path: str, route: str, status: int
) -> None:
    face = Face()

    await face.call(method, path, HELLO if method == "POST" else None)

    [told] = face.observer.exchanges()
    assert (told.route, told.status) == (route, status)
    assert told.method == (method if method != "BREW" else "OTHER")
    assert told.duration_s >= 0


async def test_a_refused_key_and_a_fault_of_ours_are_stated_too() -> None:
    locked = Face(settings=LOCKED)
    faulty = Face(ScriptedGenerator([ZeroDivisionError()]))

    await locked.chat()
    await faulty.chat()

    assert [told.status for told in locked.observer.exchanges()] == [401]
    assert [told.status for told in faulty.observer.exchanges()] == [500]


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/admin/alerts", "/admin/alerts"),
        ("GET", "/v1/models/org/small", "/v1/models/{model}"),
        ("PUT", "/v1/completions", "/v1/completions"),
        ("GET", "/admin/some/random/path", "unmatched"),
    ],
)
async def test_what_is_refused_for_want_of_a_key_has_the_template_of_its_path(
    method: str, path: str, route: str
) -> None:
    face = Face(settings=LOCKED)

    await face.call(method, path)

    [told] = face.observer.exchanges()
    assert (told.route, told.status) == (route, 401)


async def test_a_body_that_is_too_large_has_the_template_of_its_path() -> None:
    face = Face(settings=ApiSettings(max_request_bytes=1))

    await face.call("POST", CHAT, HELLO)

    [told] = face.observer.exchanges()
    assert (told.route, told.status) == (CHAT, 413)


async def test_the_path_is_told_without_the_query_and_cut() -> None:
    face = Face()

    await face.call("GET", f"/v1/models/{'x' * 999}?key=secret")

    [told] = face.observer.exchanges()
    assert told.path == f"/v1/models/{'x' * 999}"[:256]
    assert told.scheme == "http"


@pytest.mark.parametrize("error", [EngineFailedError("It died."), ZeroDivisionError()])
async def test_a_stream_that_breaks_off_is_stated_with_its_error(error: Exception) -> None:
    face = Face(ScriptedGenerator([say("a")[0], error]))

    await face.call("POST", CHAT, HELLO | {"stream": True})

    [told] = face.observer.exchanges()
    assert (told.status, told.error_type) == (200, type(error).__name__)


async def test_a_stream_is_stated_when_it_has_ended() -> None:
    face = Face(ScriptedGenerator(say("a")))

    events = events_of(await face.chat(stream=True))

    assert events[-1] == "[DONE]"
    assert [told.status for told in face.observer.exchanges()] == [200]
