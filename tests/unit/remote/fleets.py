"""Fleets of servers over real sockets."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.remote.balance import PowerOfTwo
from mm_orch.remote.discovery import Address
from mm_orch.remote.fleet import RemoteFleet
from mm_orch.remote.server import RemoteServer
from tests.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.core.events import Observer


def make_fleet(
    *urls: str,
    name_there: str | None = None,
    stall_s: float = 30.0,
    observer: Observer | None = None,
) -> RemoteFleet:
    """Make a fleet of these servers, which does not run yet."""
    clock = asyncio.get_running_loop().time

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

    return RemoteFleet(
        "ours",
        [Address(url) for url in urls],
        make_server=make_server,
        balancer=PowerOfTwo(random.Random(7)),  # noqa: S311 - which server is no secret
        observer=observer or Recorder(),
        clock=clock,
    )


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
