"""Who says which servers there are, while that is changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.endpoints import read_endpoints
from mm_orch.remote.discovery import Address, Discovery, DiscoveryError
from mm_orch.remote.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.endpoints import Endpoints

OLD, NEW, LISTED = "dns:http://old", "dns:http://new", "http://gpu-9"
A, B = Address("http://gpu-1"), Address("http://gpu-2")


class Asked:
    """A registry that answers when the test has it do so; implements remote.discovery.Finder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: asyncio.Queue[frozenset[Address] | None] = asyncio.Queue()

    async def find(self) -> frozenset[Address]:
        answer = await self.answers.get()
        if answer is None:
            raise DiscoveryError("it is away")
        return answer

    async def wait(self, _: float) -> None:
        return


class Scene:
    """The sources of a model, followed."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.finders = {name: Asked(name) for name in (OLD, NEW)}
        self._has_news = asyncio.Event()
        self.sources = Sources([], self._make_discovery)
        self.sources.follow(tasks, self._has_news.set)

    def _make_discovery(
        self, entry: Endpoints, on_news: Callable[[frozenset[Address]], None]
    ) -> Discovery:
        return Discovery(self.finders[entry.text], interval_s=0.001, on_news=on_news)

    def name(self, *entries: str) -> None:
        self.sources.name([read_endpoints(entry) for entry in entries])

    async def answer(self, name: str, found: frozenset[Address] | None) -> None:
        """Have a registry answer, and wait until that is heard."""
        self._has_news.clear()
        self.finders[name].answers.put_nowait(found)
        async with asyncio.timeout(30):
            await self._has_news.wait()

    def end(self) -> None:
        self.sources.end()
        for task in self.sources._task_by_entry.values():
            task.cancel()


async def test_what_was_found_stays_until_who_is_asked_in_its_place_has_answered() -> None:
    async with asyncio.TaskGroup() as tasks:
        scene = Scene(tasks)
        scene.name(OLD)
        await scene.answer(OLD, frozenset({A}))

        scene.name(NEW)
        assert scene.sources.wanted == {A}
        # That it cannot be asked is no answer.
        await scene.answer(NEW, None)
        assert scene.sources.wanted == {A}
        await scene.answer(NEW, frozenset({B}))
        assert scene.sources.wanted == {B}
        scene.end()


async def test_what_nobody_is_asked_for_in_its_place_leaves_at_once() -> None:
    async with asyncio.TaskGroup() as tasks:
        scene = Scene(tasks)
        scene.name(OLD, NEW)
        await scene.answer(OLD, frozenset({A}))

        # The other one is still to answer, and has nothing to do with it.
        scene.name(NEW, LISTED)

        assert scene.sources.wanted == {Address(LISTED)}
        scene.end()


async def test_servers_that_stay_for_another_leave_when_that_is_named_no_more() -> None:
    async with asyncio.TaskGroup() as tasks:
        scene = Scene(tasks)
        scene.name(OLD)
        await scene.answer(OLD, frozenset({A}))
        scene.name(NEW)

        scene.name(LISTED)

        assert scene.sources.wanted == {Address(LISTED)}
        scene.end()
