"""Asks a server for chats, streamed or whole, from so many clients at once, and notes the times."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.benchmarking.client import Client
from mm_orch.benchmarking.vocabulary import WORDS

if TYPE_CHECKING:
    from mm_orch.benchmarking.client import Target

_TIMEOUT_S = 60.0
_NUM_PROMPT_WORDS = 100


@dataclass(slots=True)
class ChatTimes:
    """What the clients saw in one run.

    Attributes:
        totals_s: from sending a request to the end of its answer.
        ttfts_s: to the first piece of a stream; empty where answers are whole.
        faults: why answers must not be compared.
        wall_s: of the whole run.
        cpu_s: processor time of the server and all it has started.
        generator_cpu_s: of the clients.
    """

    totals_s: list[float] = field(default_factory=list)
    ttfts_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    generator_cpu_s: float = 0.0


async def ask_chats(
    target: Target, *, num_clients: int, num_requests: int, num_tokens: int, is_stream: bool
) -> ChatTimes:
    """Let so many clients share the requests, each asking again when it has its answer.

    Args:
        target: the server.
        num_clients: requests that are open at any time.
        num_requests: of all clients together.
        num_tokens: of each answer; a stream must bring as many pieces.
        is_stream: ask for a stream.
    """
    client = Client(target, timeout_s=_TIMEOUT_S)
    body = body_of(target.model, num_tokens=num_tokens, is_stream=is_stream)
    times = ChatTimes()
    num_left = num_requests

    async def ask_on() -> None:
        nonlocal num_left
        while num_left > 0:
            num_left -= 1
            begin_s = time.perf_counter()
            reader = await client.post("/v1/chat/completions", body)
            end_s = time.perf_counter()
            if reader.error is not None:
                times.faults.append(reader.error)
                continue
            times.totals_s.append(end_s - begin_s)
            if is_stream and len(reader.pieces_s) == num_tokens == reader.num_output_tokens:
                times.ttfts_s.append(reader.pieces_s[0] - begin_s)
            elif is_stream:
                times.faults.append(f"{len(reader.pieces_s)} pieces of {num_tokens}")

    begin_run_s, begin_cpu_s = time.perf_counter(), time.process_time()
    try:
        async with asyncio.TaskGroup() as clients:
            for _ in range(num_clients):
                clients.create_task(ask_on())
    finally:
        client.close()
    times.wall_s = time.perf_counter() - begin_run_s
    times.generator_cpu_s = time.process_time() - begin_cpu_s
    return times


def body_of(model: str, *, num_tokens: int, is_stream: bool) -> dict[str, object]:
    """Return the body of each request: a chat of 100 words."""
    text = " ".join(WORDS[:_NUM_PROMPT_WORDS])
    stream = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": num_tokens,
        "temperature": 0,
        **stream,
    }
