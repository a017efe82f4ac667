"""Wakes everyone who waits for something to change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class News:
    """That something has changed; who waits looks again what."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._followers: list[Callable[[], None]] = []

    def follow(self, follower: Callable[[], None]) -> None:
        """Call this every time, before anyone who waits goes on."""
        self._followers.append(follower)

    def tell(self) -> None:
        """Wake everyone who waits now; later ones wait for the next time."""
        self._told.set()
        self._told = asyncio.Event()
        for follower in self._followers:
            follower()

    @property
    def next(self) -> asyncio.Event:
        """Set from the next time on: for who must not miss what changes before it waits."""
        return self._told

    async def wait(self) -> None:
        """Wait for the next time."""
        await self._told.wait()
