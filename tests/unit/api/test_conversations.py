"""Conversations as HTTP sees them: named by requests, released by their owner."""

from __future__ import annotations

import pytest

from mm_orch.api.settings import ApiKey, ApiSettings
from tests.unit.api.face import Face

KEYS = (ApiKey(name="one", key="sk-first"), ApiKey(name="two", key="sk-second"))


async def test_a_request_without_a_conversation_names_none() -> None:
    face = Face()

    await face.chat()

    assert face.generator.requests[0].conversation_id == ""


async def test_what_a_request_names_is_what_is_released() -> None:
    face = Face()
    await face.chat(conversation_id="trip-7")
    await face.complete(conversation_id="trip-7")

    response = await face.call("DELETE", "/api/conversations/trip-7")

    assert response.status_code == 200
    assert response.json() == {"conversation_id": "trip-7", "status": "released"}
    assert {one.conversation_id for one in face.generator.requests} == set(face.generator.released)


async def test_a_conversation_belongs_to_the_key_that_named_it() -> None:
    face = Face(settings=ApiSettings(enable_auth=True, api_keys=KEYS))
    for key in ("sk-first", "sk-second"):
        await face.call("DELETE", "/api/conversations/c", headers={"X-API-Key": key})

    assert len(set(face.generator.released)) == 2


@pytest.mark.parametrize("name", ["a b", "x" * 129, "a%2Fb", "%C3%A9"])
async def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    face = Face()

    response = await face.call("DELETE", f"/api/conversations/{name}")

    assert response.status_code in {400, 404}
    assert not face.generator.released
    refused = await face.chat(conversation_id="a b")
    assert refused.json()["error"]["param"] == "conversation_id"
