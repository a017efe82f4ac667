from __future__ import annotations

import asyncio

from mm_orch.workflows.channel import Channel
from tests.virtual_time import run_in_virtual_time


def test_a_writer_is_ahead_of_its_reader_by_so_much_and_no_more() -> None:
    async def write_and_read() -> list[int]:
        channel: Channel[int] = Channel(3)
        ahead: list[int] = []
        written = 0

        async def write() -> None:
            nonlocal written
            for number in range(10):
                await channel.put(number)
                written += 1
            channel.close()

        writing = asyncio.create_task(write())
        read = []
        async for item in channel:
            await asyncio.sleep(1)
            ahead.append(written - len(read) - 1)
            read.append(item)
        await writing
        assert max(ahead) == 3
        return read

    assert run_in_virtual_time(write_and_read()) == list(range(10))


def test_what_was_written_before_the_end_is_read_after_it() -> None:
    async def read_late() -> list[str]:
        channel: Channel[str] = Channel(3)
        await channel.put("a")
        channel.close()
        return [item async for item in channel]

    assert run_in_virtual_time(read_late()) == ["a"]


def test_a_reader_that_waits_is_woken_by_the_end() -> None:
    async def close_later() -> list[str]:
        channel: Channel[str] = Channel(3)
        asyncio.get_running_loop().call_later(5, channel.close)
        return [item async for item in channel]

    assert run_in_virtual_time(close_later()) == []
