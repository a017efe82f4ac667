"""Lets the calls of one session follow one another: each sees the turn before it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class _Counted:
    num_users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SessionLocks:
    """One lock a session that is in use; the others take no memory."""

    def __init__(self) -> None:
        self._by_session: dict[tuple[str, str], _Counted] = {}

    def __len__(self) -> int:
        return len(self._by_session)

    @asynccontextmanager
    async def hold(self, owner: str, session_id: str) -> AsyncIterator[None]:
        """Wait until nobody else has the session, and keep it."""
        key = (owner, session_id)
        counted = self._by_session.setdefault(key, _Counted())
        counted.num_users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.num_users -= 1
            if counted.num_users == 0:
                del self._by_session[key]
