"""The paths of live options, over a runtime that has loaded nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.app import open_runtime
from mm_orch.config import load_config
from tests.unit.api.face import Face

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.live.configuration import LiveConfiguration

PATH = "/admin/config"
CAPACITY = "monitoring.server.queue_capacity"
KEYED = ApiSettings(
    enable_auth=True,
    api_keys=(ApiKey(name="a", key="sk-user"), ApiKey(name="b", key="sk-boss", is_admin=True)),
)


@pytest.fixture
async def live() -> AsyncIterator[LiveConfiguration]:
    loaded = load_config(path=None, environ={"MUAI_OPT_SERVER_QUEUE_CAPACITY": "40"}, overrides={})
    async with open_runtime(loaded.config, origins=loaded.origins) as runtime:
        yield runtime.live


async def test_options_are_told_with_who_set_them_and_what_they_may_be(
    live: LiveConfiguration,
) -> None:
    face = Face(live=live)
    options = {one["path"]: one for one in (await face.call("GET", PATH)).json()["options"]}

    assert options[CAPACITY] == {
        "path": CAPACITY,
        "value": 40,
        "origin": "MUAI_OPT_SERVER_QUEUE_CAPACITY",
        "allowed": "a whole number, at least 1",
    }
    assert len(options) == 16


async def test_a_change_is_answered_with_what_it_has_changed(live: LiveConfiguration) -> None:
    face = Face(live=live)
    values = {CAPACITY: 7, "optimization.tuner.enable_timeout_tuning": True}

    [change] = (await face.call("PATCH", PATH, values)).json()["changes"]
    again = await face.call("PATCH", PATH, values)

    assert (change["path"], change["old"], change["new"], change["source"]) == (
        CAPACITY,
        40,
        7,
        "admin",
    )
    assert again.json() == {"changes": []}
    told = (await face.call("GET", PATH)).json()
    assert told["history"] == [change]
    assert live.read()[CAPACITY] == 7


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The body is empty"),
        (b"{", "The body is not JSON"),
        (b"[1]", "must be a JSON object, not a list"),
        (b'{"a": 1}', "a = 1 (admin): is not an option of the configuration"),
        (b'{"a\\nb": {"c": []}}', "is not an option of the configuration"),
    ],
)
async def test_a_body_that_is_no_change_is_refused(
    live: LiveConfiguration, content: bytes, says: str
) -> None:
    answer = await Face(live=live).call("PATCH", PATH, content=content)

    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_it_is_an_admins_right(live: LiveConfiguration, method: str) -> None:
    keyed, from_afar = Face(live=live, settings=KEYED), Face(live=live, address="10.0.0.9")

    statuses = [
        (await keyed.call(method, PATH, {}, headers=headers)).status_code
        for headers in (
            {},
            {"Authorization": "Bearer sk-user"},
            {"Authorization": "Bearer sk-boss"},
        )
    ]

    assert statuses == [401, 403, 200]
    assert (await from_afar.call(method, PATH, {})).status_code == 403


async def test_another_method_is_told_all_that_there_are(live: LiveConfiguration) -> None:
    answer = await Face(live=live).call("DELETE", PATH)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, PATCH")


async def test_the_description_tells_of_it(live: LiveConfiguration) -> None:
    paths = (await Face(live=live).call("GET", "/openapi.json")).json()["paths"]

    assert set(paths[PATH]["get"]["responses"]) == {"200", "401", "403"}
    assert set(paths[PATH]["patch"]["responses"]) == {"200", "400", "401", "403", "413", "503"}
