"""POST /v1/embeddings: what is asked for, what comes back, who may leave."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from mm_orch.core.errors import ContextLengthError, EngineCrashedError, ModelNotFoundError
from tests.unit.api.face import VECTORS, Face
from tests.unit.api.scripted_embedder import ScriptedEmbedder
from tests.unit.api.served import call, serve


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("Hi", ("Hi",)),
        (["Hi", "you"], ("Hi", "you")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
async def test_input_is_a_text_or_token_ids_or_several(given: object, inputs: object) -> None:
    face = Face()

    response = await face.embed(input=given, model="auto", user="me", timeout_s=5, dimensions=2)

    assert response.status_code == 200
    [request] = face.embedder.requests
    assert request.inputs == inputs
    assert (request.model, request.timeout_s, request.dimensions) == (None, 5, 2)
    assert request.request_id == response.headers["x-request-id"]


async def test_the_answer_has_openais_shape() -> None:
    response = await Face().embed(input=["Hi", "you"], model="any")

    third = float(np.float32(1 / 3))
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0, 2.0, third]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 3.0, third]},
        ],
        "model": "vectors",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-muai-model"] == "vectors"
    assert response.headers["x-muai-engine"] == "scripted"


async def test_base64_holds_the_same_numbers() -> None:
    plain = (await Face().embed(encoding_format="float")).json()["data"][0]["embedding"]
    packed = (await Face().embed(encoding_format="base64")).json()["data"][0]["embedding"]

    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == plain


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": ""}, "input", ["1 character"]),
        ({"input": []}, "input", ["at least 1 entry"]),
        ({"input": ["a", ""]}, "input.1", ["1 character"]),
        ({"input": [[1], []]}, "input.1", ["at least 1 entry"]),
        ({"input": [1, "a"]}, "input.1", ['"a"']),
        ({"input": [-1]}, "input.0", ["-1", "0"]),
        ({"input": [1.5]}, "input.0", ["1.5", "integer"]),
        ({"input": ["a"] * 2049}, "input", ["2049", "2048"]),
        ({"input": {"text": "a"}}, "input", ["string", "list"]),
        ({"input": None}, "input", ["null"]),
        ({"encoding_format": "hex"}, "encoding_format", ["hex", "float", "base64"]),
        ({"dimensions": 0}, "dimensions", ["0", "1"]),
        ({"timeout_s": 0}, "timeout_s", ["0"]),
        ({"inputs": "a"}, "inputs", ["Did you mean input?"]),
    ],
)
async def test_a_wrong_field_is_named_with_what_is_allowed(
    fields: dict[str, Any], param: str, words: list[str]
) -> None:
    face = Face()

    response = await face.embed(**fields)

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert all(word in error["message"] for word in words), error["message"]
    assert not face.embedder.requests


async def test_input_is_needed() -> None:
    response = await Face().call("POST", VECTORS, {"model": "any"})

    assert response.status_code == 400
    assert response.json()["error"]["message"] == "input is missing."


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextLengthError("long", param="input"), 400, "context_length_exceeded"),
        (ModelNotFoundError("none", param="model"), 404, "model_not_found"),
        (EngineCrashedError("gone"), 503, "engine_crashed"),
    ],
)
async def test_an_error_has_the_status_that_it_has_everywhere(
    error: Exception, status: int, code: str
) -> None:
    response = await Face(embedder=ScriptedEmbedder(refusal=error)).embed()

    assert response.status_code == status
    assert response.json()["error"]["code"] == code


async def test_a_client_that_leaves_ends_the_work() -> None:
    face = Face(embedder=ScriptedEmbedder(is_holding=True))

    async with serve(face.app) as port, call(port) as caller:
        caller.send(VECTORS, {"input": "Hi"})
        await face.embedder.has_begun.wait()
        await caller.leave()
        await face.embedder.has_been_cancelled.wait()
