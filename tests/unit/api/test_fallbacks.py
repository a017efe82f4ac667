"""What a client is told when another engine answers than the preferred one."""

from __future__ import annotations

import json

from mm_orch.core.errors import PoisonedRequestError
from mm_orch.core.fallback import Failover, Fallback
from tests.unit.api.face import Face, events_of
from tests.unit.api.scripted_generator import ScriptedGenerator, say

LOST = Failover("vllm", "onnx", 1, "The vllm worker ended (killed by SIGKILL)")
TOLD = {"failovers": [{"from": "vllm", "to": "onnx", "delivered_tokens": 1, "reason": LOST.reason}]}


async def test_an_answer_by_the_preferred_engine_says_nothing_of_fallbacks() -> None:
    response = await Face().chat()

    assert "x-muai-fallback" not in response.headers
    assert "muai" not in response.json()


async def test_a_model_on_its_second_engine_says_so_in_a_header() -> None:
    reason = 'It said "no" \\ in\tUmlauten: ü\nand went on'
    face = Face(generator=ScriptedGenerator(fallback=Fallback("vllm", "onnx", reason)))

    for response in (await face.chat(), await face.chat(stream=True)):
        told = response.headers["x-muai-fallback"]
        assert told == 'vllm->onnx; reason="It said no  inUmlauten: ?"'


async def test_a_stream_that_was_finished_elsewhere_says_so_in_its_last_chunk() -> None:
    first, *rest = say("Hello", " world")
    face = Face(generator=ScriptedGenerator(script=[first, LOST, *rest]))

    response = await face.chat(stream=True, stream_options={"include_usage": True})

    *chunks, end, usage, done = events_of(response)
    assert done == "[DONE]"
    assert json.loads(end)["muai"] == TOLD
    assert json.loads(usage)["muai"] == TOLD
    assert all("muai" not in json.loads(chunk) for chunk in chunks)
    # The head had been sent when it happened.
    assert "x-muai-fallback" not in response.headers


async def test_an_answer_that_moved_before_its_first_byte_says_so_in_the_header_too() -> None:
    face = Face(generator=ScriptedGenerator(script=[LOST, *say("Hello")]))

    for response in (await face.complete(), await face.complete(stream=True)):
        assert response.headers["x-muai-fallback"].startswith('vllm->onnx; reason="The vllm')


async def test_a_whole_answer_that_was_finished_elsewhere_says_so() -> None:
    first, *rest = say("Hello", " world")
    face = Face(generator=ScriptedGenerator(script=[first, LOST, *rest]))

    assert (await face.chat()).json()["muai"] == TOLD
    assert (await face.complete()).json()["muai"] == TOLD


async def test_clients_are_told_not_to_send_a_poisonous_request_again() -> None:
    face = Face(generator=ScriptedGenerator(refusal=PoisonedRequestError("2 workers ended.")))

    response = await face.chat()

    assert response.status_code == 500
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "request_poisoned"
