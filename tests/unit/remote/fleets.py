"""Fleets of servers over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.core.endpoints import read_endpoints
from mm_orch.remote.discovery import Discovery
from mm_orch.remote.fleet import RemoteFleet
from mm_orch.remote.placing import Placing
from mm_orch.remote.server import RemoteServer
from mm_orch.remote.sources import Sources
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from mm_orch.core.endpoints import Endpoints
    from mm_orch.core.events import Observer
    from mm_orch.remote.discovery import Address, Finder


def make_fleet(
    *urls: str,
    name_there: str | None = None,
    stall_s: float = 30.0,
    observer: Observer | None = None,
    finders: Mapping[str, Finder] | None = None,
    cache_tokens: int = 65_536,
) -> RemoteFleet:
    """Make a fleet of these servers, which does not run yet.

    Args:
        finders: ask the registries of further entries.
    """
    clock = asyncio.get_running_loop().time
    finder_by_entry = dict(finders or {})

    def make_server(address: Address, on_change: Callable[[], None]) -> RemoteServer:
        return RemoteServer(
            "ours",
            address,
            name_there=name_there,
            api_key="secret",
            stall_s=stall_s,
            on_change=on_change,
            clock=clock,
        )

    def make_discovery(
        entry: Endpoints, on_news: Callable[[frozenset[Address]], None]
    ) -> Discovery:
        return Discovery(finder_by_entry[entry.text], interval_s=0.001, on_news=on_news)

    fleet = RemoteFleet(
        "ours",
        Sources([], make_discovery),
        make_server=make_server,
        placing=Placing(max_tokens=cache_tokens, seed=7),
        observer=observer or Recorder(),
        clock=clock,
    )
    fleet.name([read_endpoints(text) for text in [*urls, *finder_by_entry]])
    return fleet


@asynccontextmanager
async def running(
    *urls: str,
    name_there: str | None = None,
    stall_s: float = 30.0,
    observer: Observer | None = None,
) -> AsyncIterator[RemoteFleet]:
    """Run a fleet of these servers."""
    fleet = make_fleet(*urls, name_there=name_there, stall_s=stall_s, observer=observer)
    async with run(fleet):
        yield fleet


@asynccontextmanager
async def run(fleet: RemoteFleet) -> AsyncIterator[None]:
    """Run a fleet for as long as this is entered."""
    task = asyncio.create_task(fleet.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
