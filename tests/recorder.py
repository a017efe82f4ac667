"""An observer that keeps what it is told, and wakes who waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mm_orch.core.events import Event

T = TypeVar("T")


class Recorder:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._has_news = asyncio.Event()

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self._has_news.set()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type, count: int = 1) -> None:
        async with asyncio.timeout(60):
            while len(self.of(kind)) < count:
                self._has_news.clear()
                await self._has_news.wait()
