"""How every error that can happen looks to the caller."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from mm_orch.core import errors, place_errors
from mm_orch.core.errors import MuAIError
from mm_orch.core.live_error import LiveChangeError
from tests.unit.api.face import CHAT, Face, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator, say

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUS_BY_ERROR = {
    "MuAIError": 500,
    "ConfigError": 500,
    "ModelStoreError": 500,
    "ServerStartError": 500,
    "NoServerError": 500,
    "RequestError": 400,
    "InvalidValueError": 400,
    "ContextLengthError": 400,
    "UnsupportedError": 400,
    "ModelNotFoundError": 404,
    "StorageError": 500,
    "SearchError": 500,
    "WorkflowError": 500,
    "GraphError": 500,
    "WorkflowNotFoundError": 404,
    "SessionNotFoundError": 404,
    "RequestNotFoundError": 404,
    "WorkflowLockedError": 403,
    "SessionLimitError": 400,
    "DocumentNotFoundError": 404,
    "DocumentLimitError": 400,
    "AuthenticationError": 401,
    "ForbiddenError": 403,
    "ModelBusyError": 409,
    "PayloadTooLargeError": 413,
    "RateLimitError": 429,
    "NotServedError": 404,
    "LiveChangeError": 400,
    "OverloadError": 503,
    "QueueFullError": 503,
    "DrainingError": 503,
    "DeadlineTooSoonError": 503,
    "StorageBusyError": 503,
    "StorageUnavailableError": 503,
    "ModelUnavailableError": 503,
    "DeadlineError": 504,
    "EngineError": 503,
    "EngineStartError": 503,
    "NoPlaceError": 503,
    "EngineCrashedError": 503,
    "EngineOutOfMemoryError": 503,
    "EngineFailedError": 503,
    "EngineHungError": 503,
    "DeviceLostError": 503,
    "NodeLostError": 503,
    "FailoverError": 503,
    "PoisonedRequestError": 500,
}


def all_kinds(root: type[MuAIError] = MuAIError) -> Iterator[type[MuAIError]]:
    yield root
    for kind in root.__subclasses__():
        yield from all_kinds(kind)


OWN = {errors.__name__, place_errors.__name__, LiveChangeError.__module__}
KINDS = {kind.__name__: kind for kind in all_kinds()}


def make(kind: type[MuAIError]) -> MuAIError:
    if issubclass(kind, errors.ConfigError | LiveChangeError):
        return kind([])
    if issubclass(kind, errors.OverloadError | errors.RateLimitError):
        return kind("Because.", retry_after_s=1.2)
    if issubclass(kind, errors.GraphError):
        return kind("tried", [])
    return kind("Because.")


def test_the_table_names_every_error_of_the_tree() -> None:
    own = {kind.__name__ for kind in all_kinds() if kind.__module__ in OWN}

    assert own == set(STATUS_BY_ERROR)


@pytest.mark.parametrize("name", STATUS_BY_ERROR)
async def test_each_error_has_its_status_and_envelope(name: str) -> None:
    error = make(KINDS[name])
    face = Face(ScriptedGenerator(refusal=error))

    response = await face.chat()

    assert response.status_code == STATUS_BY_ERROR[name]
    told = response.json()["error"]
    assert set(told) == {"message", "type", "code", "param"}
    assert told["code"] == error.code
    assert told["message"] == str(error)
    assert response.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("name", STATUS_BY_ERROR)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_text_keeps_its_status(name: str, stream: bool) -> None:  # noqa: FBT001 - a parameter of the table
    face = Face(ScriptedGenerator([make(KINDS[name])]))

    response = await face.chat(stream=stream)

    assert response.status_code == STATUS_BY_ERROR[name]
    assert response.json()["error"]["code"] == KINDS[name].code


@pytest.mark.parametrize("name", STATUS_BY_ERROR)
async def test_an_error_within_a_stream_is_its_last_event(name: str) -> None:
    error = make(KINDS[name])
    face = Face(ScriptedGenerator([*say("Hello")[:1], error]))

    response = await face.chat(stream=True)

    assert response.status_code == 200
    events = events_of(response)
    assert f'"code":"{error.code}"' in events[-1]
    assert "[DONE]" not in events


@pytest.mark.parametrize("kind", [errors.QueueFullError, errors.RateLimitError])
@pytest.mark.parametrize(("seconds", "told"), [(1.2, "2"), (0.0, "1"), (30, "30")])
async def test_a_momentary_refusal_says_when_to_return_in_whole_seconds(
    kind: type[errors.QueueFullError | errors.RateLimitError], seconds: float, told: str
) -> None:
    face = Face(ScriptedGenerator(refusal=kind("Later.", retry_after_s=seconds)))

    response = await face.chat()

    assert response.headers["retry-after"] == told


async def test_the_field_at_fault_is_named_with_the_remedy() -> None:
    error = errors.InvalidValueError("stop is odd.", param="stop", remedy="Make it even.")

    response = await Face(ScriptedGenerator(refusal=error)).chat()

    assert response.json()["error"]["param"] == "stop"
    assert response.json()["error"]["message"] == "stop is odd. Make it even."


async def test_an_unknown_model_is_not_found_and_the_known_ones_are_named() -> None:
    response = await Face().chat(model="gpt-9")

    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "gpt-9" in error["message"]
    assert "small" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_told_without_its_text_and_logged_with_it(
    stream: bool,  # noqa: FBT001 - a parameter of the table
    caplog: pytest.LogCaptureFixture,
) -> None:
    face = Face(ScriptedGenerator([ZeroDivisionError("inner secret")]))

    with caplog.at_level(logging.ERROR):
        response = await face.call(
            "POST",
            CHAT,
            {"messages": [{"role": "user", "content": "Hi"}], "stream": stream},
            headers={"X-Request-ID": "mine"},
        )

    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "mine" in error["message"]
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "mine"
    [record] = [record for record in caplog.records if record.exc_info]
    assert "inner secret" in str(record.exc_info)
    assert "mine" in record.getMessage()


async def test_a_fault_of_ours_within_a_stream_is_its_last_event() -> None:
    face = Face(ScriptedGenerator([*say("Hello")[:1], ZeroDivisionError("inner secret")]))

    response = await face.chat(stream=True)

    assert '"code":"internal_error"' in events_of(response)[-1]
    assert "secret" not in response.text
    assert [exchange.status for exchange in face.observer.exchanges()] == [200]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/docs", "/redoc", "/admin/x", "/%ff"])
async def test_an_unknown_path_is_not_found_in_the_same_envelope(path: str) -> None:
    response = await Face().call("GET", path)

    assert response.status_code == 404
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "code", "param"}
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/health", "GET"),
    ],
)
async def test_a_wrong_method_names_the_right_one(method: str, path: str, allowed: str) -> None:
    response = await Face().call(method, path)

    assert response.status_code == 405
    assert allowed in response.headers["allow"]
    assert f"does not take {method}, but {allowed}" in response.json()["error"]["message"]
