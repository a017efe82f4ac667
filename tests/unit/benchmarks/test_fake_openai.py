"""The fake backend, asked by the load generator of the gateways."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from benchmarks.gateway_load import ask_chats
from benchmarks.servers import fake_openai
from mm_orch.benchmarking.client import Target, read_json
from mm_orch.benchmarking.server_process import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def serving() -> AsyncIterator[Target]:
    server = await fake_openai.start(0, interval_s=0.001)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Target(host=HOST, port=port, model=fake_openai.MODEL)
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("num_tokens", [1, 2, 5])
async def test_a_stream_brings_a_piece_for_each_token(num_tokens: int) -> None:
    async with serving() as target:
        times = await ask_chats(
            target, num_clients=3, num_requests=7, num_tokens=num_tokens, is_stream=True
        )

    assert times.faults == []
    assert len(times.totals_s) == len(times.ttfts_s) == 7


async def test_a_whole_answer_has_the_text_and_the_usage() -> None:
    body = json.dumps({"max_tokens": 3}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    async with serving() as target:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(head.encode() + body)
        told = await reader.readuntil(b"\r\n\r\n")
        length = int(told.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        writer.close()

    assert answer["choices"][0]["message"]["content"] == fake_openai.PIECE * 3
    assert answer["usage"]["completion_tokens"] == 3


async def test_it_names_its_model() -> None:
    async with serving() as target:
        models = await read_json(target, "/v1/models")

    assert isinstance(models, dict)
    assert [one["id"] for one in models["data"]] == [fake_openai.MODEL]


async def test_what_a_server_refuses_is_a_fault_of_the_run() -> None:
    async with serving() as target:
        elsewhere = Target(host=target.host, port=target.port, model="m", prefix="/nowhere")
        times = await ask_chats(
            elsewhere, num_clients=1, num_requests=2, num_tokens=1, is_stream=False
        )

    assert times.totals_s == []
    assert [fault.startswith("HTTP 404") for fault in times.faults] == [True, True]
