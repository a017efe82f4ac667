"""The HTTP front of engines that bring none, asked by the load generator itself."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.servers import front
from mm_orch.benchmarking.client import Target
from mm_orch.benchmarking.load import run_closed
from mm_orch.benchmarking.server_process import HOST
from mm_orch.benchmarking.workloads import Session, Turn, Workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Counting:
    """Counts up from the prompt's length, on a thread of its own as engines do."""

    def __init__(self, *, error: str | None = None) -> None:
        self._error = error

    def encode(self, body: dict[str, Any]) -> list[int]:
        return [len(body.get("messages") or body["prompt"].split())]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(f"{token_id} " for token_id in token_ids)

    def submit(self, job: front.Job) -> None:
        threading.Thread(target=self._work, args=(job,)).start()

    def _work(self, job: front.Job) -> None:
        for number in range(job.max_tokens):
            job.emit([job.token_ids[0] + number])
        job.end(self._error)


@asynccontextmanager
async def serving(engine: front.Engine) -> AsyncIterator[Target]:
    server = await front.start(engine, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Target(host=HOST, port=port, model="m")
    finally:
        server.close()
        await server.wait_closed()


def workload(*, is_chat: bool, num_turns: int = 1) -> Workload:
    session = Session(turns=(Turn("a b c", 4),) * num_turns)
    return Workload(name="w", is_chat=is_chat, sessions=(session, session))


@pytest.mark.parametrize("is_chat", [True, False])
async def test_tokens_are_streamed_and_counted(*, is_chat: bool) -> None:
    async with serving(Counting()) as target:
        run = await run_closed(target, workload(is_chat=is_chat), 2)

    assert [record.error for record in run.requests] == [None, None]
    assert {record.num_output_tokens for record in run.requests} == {4}
    assert {record.num_prompt_tokens for record in run.requests} == {1}
    expected = "1 2 3 4 " if is_chat else "3 4 5 6 "
    assert {record.text for record in run.requests} == {expected}


async def test_a_conversation_goes_on_over_one_connection() -> None:
    async with serving(Counting()) as target:
        run = await run_closed(target, workload(is_chat=True, num_turns=3), 1)

    assert [record.text for record in run.requests][:3] == ["1 2 3 4 ", "3 4 5 6 ", "5 6 7 8 "]


async def test_what_the_engine_cannot_do_reaches_the_client() -> None:
    async with serving(Counting(error="out of memory")) as target:
        run = await run_closed(target, workload(is_chat=True), 1)

    assert "out of memory" in str(run.requests[0].error)


async def test_it_says_when_it_is_ready() -> None:
    async with serving(Counting()) as target:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
