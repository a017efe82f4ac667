"""Reads several generations at the same time as if they were one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from mm_orch.core.generation import GenerationRequest, TextDelta
    from mm_orch.orchestration.generation import Generation, Generator


@asynccontextmanager
async def open_all(
    generator: Generator, requests: Sequence[GenerationRequest]
) -> AsyncIterator[list[Generation]]:
    """Open one generation a request; leaving cancels what has not ended."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(generator.open(request)) for request in requests]


@asynccontextmanager
async def read_together(
    generations: Sequence[Generation], num_choices: int
) -> AsyncIterator[AsyncIterator[TextDelta]]:
    """Give the deltas of all generations as they come; choices are numbered through.

    Args:
        generations: at least one.
        num_choices: of each generation, so that the second one's begin there.
    """
    if len(generations) == 1:
        yield aiter(generations[0])
        return
    async with aclosing(_merge(generations, num_choices)) as deltas:
        yield deltas


async def _merge(generations: Sequence[Generation], num_choices: int) -> AsyncGenerator[TextDelta]:
    # One delta of each is read ahead, no more: who reads slowly slows the generations' readers.
    reading: dict[asyncio.Task[TextDelta | None], tuple[AsyncIterator[TextDelta], int]] = {}

    def read_on(source: AsyncIterator[TextDelta], first_index: int) -> None:
        reading[asyncio.create_task(_read(source))] = (source, first_index)

    try:
        for number, generation in enumerate(generations):
            read_on(aiter(generation), number * num_choices)
        while reading:
            done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                delta = task.result()
                source, first_index = reading.pop(task)
                if delta is not None:
                    read_on(source, first_index)
                    yield msgspec.structs.replace(delta, index=delta.index + first_index)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _read(source: AsyncIterator[TextDelta]) -> TextDelta | None:
    return await anext(source, None)
