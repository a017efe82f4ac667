"""Carries what a run tells to the one who reads it: bounded, and closed when the run is over."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")


class Channel(Generic[T]):
    """A queue whose writers wait while it is full, and whose reader ends when it is closed."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._items: deque[T] = deque()
        self._has_room = asyncio.Event()
        self._has_news = asyncio.Event()
        self._is_closed = False

    async def put(self, item: T) -> None:
        """Add an item, as soon as there is room."""
        while len(self._items) >= self._max_size:
            self._has_room.clear()
            await self._has_room.wait()
        self._items.append(item)
        self._has_news.set()

    def close(self) -> None:
        """Let the reader end once it has taken what is there; nobody writes any more."""
        self._is_closed = True
        self._has_news.set()

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            while self._items:
                item = self._items.popleft()
                self._has_room.set()
                yield item
            if self._is_closed:
                return
            self._has_news.clear()
            await self._has_news.wait()
