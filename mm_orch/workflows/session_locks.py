"""Lets the calls of one session follow one another, a few: each sees the turn before it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.core.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_RETRY_AFTER_S = 5.0


@dataclass(slots=True)
class _Counted:
    num_users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SessionLocks:
    """One lock a session that is in use; the others take no memory.

    Args:
        max_waiting: calls of one session that may wait for another; more are refused.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._by_session: dict[tuple[str, str], _Counted] = {}

    @asynccontextmanager
    async def hold(self, owner: str, session_id: str) -> AsyncIterator[None]:
        """Wait until nobody else has the session, and keep it.

        Raises:
            QueueFullError: too many wait for it.
        """
        key = (owner, session_id)
        counted = self._by_session.setdefault(key, _Counted())
        if counted.num_users > self._max_waiting:
            raise QueueFullError(
                f"{self._max_waiting} messages of the session {session_id} wait to be answered,"
                " which is the most.",
                retry_after_s=_RETRY_AFTER_S,
                remedy="Send the next message when one is answered.",
            )
        counted.num_users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.num_users -= 1
            if counted.num_users == 0:
                del self._by_session[key]
