from __future__ import annotations

import pytest

from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.errors import DeadlineTooSoonError
from tests.unit.api.face import CHAT, SHORTEST, VECTORS, Face
from tests.unit.api.scripted_generator import ScriptedGenerator

KEYS = ApiSettings(
    enable_auth=True,
    api_keys=(
        ApiKey(name="any", key="k-any"),
        ApiKey(name="some", key="k-some", priority_max=3),
        ApiKey(name="least", key="k-least", priority_max=-2),
    ),
)


@pytest.mark.parametrize("path", SHORTEST)
@pytest.mark.parametrize("priority", [-10, 0, 10])
async def test_every_generating_path_takes_a_priority_and_names_the_caller(
    path: str, priority: int
) -> None:
    face = Face(settings=KEYS)
    body = {**SHORTEST[path], "priority": priority}

    answer = await face.call("POST", path, body, headers={"X-API-Key": "k-any"})

    assert answer.status_code == 200
    [request] = face.generator.requests
    assert (request.priority, request.caller) == (priority, "any")


async def test_embedding_takes_a_priority_too() -> None:
    face = Face()

    assert (await face.embed(priority=4)).status_code == 200

    [request] = face.embedder.requests
    assert (request.priority, request.caller) == (4, "anonymous")


@pytest.mark.parametrize(
    ("key", "priority", "given"),
    [("k-some", 3, 3), ("k-some", -7, -7), ("k-some", None, 0), ("k-least", None, -2)],
)
async def test_a_key_gets_what_it_asks_for_within_its_bound(
    key: str, priority: int | None, given: int
) -> None:
    face = Face(settings=KEYS)

    await face.call("POST", CHAT, {**SHORTEST[CHAT], "priority": priority}, headers=key_of(key))

    assert [one.priority for one in face.generator.requests] == [given]


@pytest.mark.parametrize("path", [*SHORTEST, VECTORS])
async def test_above_its_bound_a_key_is_refused_with_the_bound(path: str) -> None:
    face = Face(settings=KEYS)
    body = {**SHORTEST.get(path, {"input": "Hi"}), "priority": 4}

    answer = await face.call("POST", path, body, headers=key_of("k-some"))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "priority")
    assert "the key some may ask for up to 3" in error["message"]
    assert not face.generator.requests


@pytest.mark.parametrize("priority", [11, -11, 1.5, "high", True])
async def test_what_is_no_priority_is_refused_by_name(priority: object) -> None:
    answer = await Face().chat(priority=priority)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "priority"


async def test_a_deadline_that_cannot_be_met_is_overload_with_a_time_to_return() -> None:
    refusal = DeadlineTooSoonError("30 requests go before this one.", retry_after_s=9.2)

    answer = await Face(generator=ScriptedGenerator(refusal=refusal)).chat(timeout_s=1)

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "deadline_too_soon"
    assert answer.headers["retry-after"] == "10"


def key_of(key: str) -> dict[str, str]:
    return {"X-API-Key": key}
