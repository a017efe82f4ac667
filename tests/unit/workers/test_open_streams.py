from __future__ import annotations

import asyncio

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.workers import messages
from mm_orch.workers.open_streams import OpenStreams
from mm_orch.workers.orders import Orders
from mm_orch.workers.stream import TokenStream


class Door:
    """Requests that go in as soon as there is room, in the order in which that was."""

    def __init__(self, max_open: int | None) -> None:
        self.streams = OpenStreams()
        self.streams.max_open = max_open
        self.inside: list[str] = []

    async def enter(self, name: str, num_sequences: int = 1) -> None:
        await self.streams.wait_for_room(num_sequences)
        ids = [f"{name}/{index}" for index in range(num_sequences)]
        self.streams.add(ids, TokenStream(ids, lambda _: None))
        self.inside.append(name)

    async def leave(self, one_id: str) -> list[str]:
        self.streams.forget(one_id)
        return await self.settle()

    async def settle(self) -> list[str]:
        # Each that waits needs a few turns of the loop, and nothing else happens in it.
        for _ in range(20):
            await asyncio.sleep(0)
        return self.inside


async def test_requests_go_in_by_arrival_when_others_have_left() -> None:
    door = Door(max_open=2)
    async with asyncio.TaskGroup() as tasks:
        for name, num_sequences in (("a", 1), ("b", 1), ("c", 2), ("d", 1)):
            tasks.create_task(door.enter(name, num_sequences))

        assert await door.settle() == ["a", "b"]
        # There is room for the last, but it came after one that needs more.
        assert await door.leave("a/0") == ["a", "b"]
        assert await door.leave("b/0") == ["a", "b", "c"]
        assert await door.leave("c/1") == ["a", "b", "c", "d"]


async def test_a_higher_bound_lets_in_who_waits() -> None:
    door = Door(max_open=1)
    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(door.enter(name))

        assert await door.settle() == ["a"]
        door.streams.max_open = 2
        assert await door.settle() == ["a", "b"]
        door.streams.max_open = None
        assert await door.settle() == ["a", "b", "c"]


async def test_a_request_of_more_than_the_bound_goes_in_alone() -> None:
    door = Door(max_open=2)
    async with asyncio.TaskGroup() as tasks:
        for name, num_sequences in (("a", 1), ("b", 4), ("c", 1)):
            tasks.create_task(door.enter(name, num_sequences))

        assert await door.settle() == ["a"]
        assert await door.leave("a/0") == ["a", "b"]
        for index in range(2):
            assert await door.leave(f"b/{index}") == ["a", "b"]
        assert await door.leave("b/2") == ["a", "b", "c"]


async def test_one_that_gives_up_waiting_is_in_nobodys_way() -> None:
    door = Door(max_open=1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(door.enter("a"))
        given_up = tasks.create_task(door.enter("b"))
        tasks.create_task(door.enter("c"))
        await door.settle()

        given_up.cancel()

        assert await door.leave("a/0") == ["a", "c"]


async def test_an_order_is_answered_by_its_number_or_by_the_end() -> None:
    sent: list[messages.ToWorker] = []
    first, second = (
        messages.Sharing(
            batcher=BatcherSpec(max_batch_size=size, max_batch_tokens=64),
            cache=messages.CacheSpec(),
            max_kv_bytes=0,
        )
        for size in (1, 2)
    )
    orders = Orders(first, sent.append)
    refused, ended = orders.give(second), orders.give(first)
    assert (orders.told, orders.in_force) == (first, first)

    orders.take(messages.Configured(number=0, sharing=second, refusal="full"))
    orders.close()
    orders.take(messages.Configured(number=1, sharing=first))

    answer = await refused
    assert answer is not None
    assert answer.refusal == "full"
    assert await ended is None
    assert [one.number for one in sent if isinstance(one, messages.Configure)] == [0, 1]
