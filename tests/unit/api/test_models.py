"""The native paths about models, and whose right it is to load and unload them."""

from __future__ import annotations

import pytest

from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.errors import ModelBusyError
from tests.unit.api.face import Face
from tests.unit.api.scripted_generator import ScriptedLoader

KEYS = ApiSettings(
    enable_auth=True,
    api_keys=(ApiKey(name="ann", key="alpha", is_admin=True), ApiKey(name="bob", key="beta")),
)


async def test_models_are_listed_with_their_state() -> None:
    face = Face()

    models = (await face.call("GET", "/api/models")).json()["models"]
    one = (await face.call("GET", "/api/models/org/small")).json()

    assert [(model["name"], model["phase"]) for model in models] == [
        ("small", "ready"),
        ("large", "loading"),
    ]
    assert one == models[0]
    assert (await face.call("GET", "/api/models/none")).status_code == 404


async def test_models_are_loaded_and_unloaded_by_name_or_alias() -> None:
    face = Face()

    loaded = await face.call("POST", "/api/models/large/load")
    unloaded = await face.call("POST", "/api/models/org/small/unload?force=true")

    assert loaded.json() == {"name": "large", "status": "loading"}
    assert unloaded.json() == {"name": "small", "status": "ready"}
    assert face.loader.calls == [("load", "large", False), ("unload", "small", True)]


async def test_a_word_that_is_neither_true_nor_false_is_refused() -> None:
    response = await Face().call("POST", "/api/models/small/unload?force=perhaps")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "force"
    assert "'perhaps'" in response.json()["error"]["message"]


async def test_a_busy_model_is_a_conflict() -> None:
    face = Face(loader=ScriptedLoader(refusal=ModelBusyError("It has 2 requests.")))

    response = await face.call("POST", "/api/models/small/unload")

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "model_busy"


@pytest.mark.parametrize(("key", "status"), [("alpha", 200), ("beta", 403), ("gamma", 401)])
async def test_with_keys_it_takes_an_admins(key: str, status: int) -> None:
    # Wherever it comes from.
    face = Face(settings=KEYS, address="10.0.0.7")

    response = await face.call("POST", "/api/models/small/load", headers={"X-API-Key": key})

    assert response.status_code == status
    assert bool(face.loader.calls) is (status == 200)


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("10.0.0.7", {}),
        ("127.0.0.1", {"Host": "evil.example"}),
        ("127.0.0.1", {"Origin": "https://evil.example"}),
        ("127.0.0.1", {"Origin": "null"}),
        ("127.0.0.1", {"Origin": "http://localhost:3000"}),
        ("127.0.0.1", {"Host": "[::1"}),
    ],
)
async def test_without_keys_it_takes_this_machine(address: str, headers: dict[str, str]) -> None:
    face = Face(address=address)

    response = await face.call("POST", "/api/models/small/unload", headers=headers)

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "admin_required"
    assert face.loader.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"},
        {"Host": "localhost", "Origin": "http://localhost"},
        {"Origin": "http://localhost:3000"},
    ],
)
async def test_a_page_of_ours_may_and_one_that_the_operator_names(headers: dict[str, str]) -> None:
    settings = ApiSettings(cors_origins=("http://localhost:3000", "https://evil.example"))

    response = await Face(settings=settings).call("POST", "/api/models/small/load", headers=headers)

    assert response.status_code == 200
