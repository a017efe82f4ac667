"""What a worker is told to change while it runs, and what it says is in force."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from mm_orch.workers import messages

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = asyncio.Future[messages.Configured | None]
"""What the worker says to an order; None where it ended before it could."""


class Orders:
    """The orders to one worker.

    Args:
        sharing: what it was started with.
        send: gives it a message.

    Attributes:
        in_force: what it has said last.
        told: what it will say once it has carried out what it was told.
    """

    def __init__(
        self, sharing: messages.Sharing, send: Callable[[messages.ToWorker], None]
    ) -> None:
        self.in_force = self.told = sharing
        self._send = send
        self._numbers = count()
        self._answers: dict[int, Answer] = {}

    def give(self, sharing: messages.Sharing) -> Answer:
        """Tell the worker; its answer comes after the step that it computes now."""
        number = next(self._numbers)
        answer: Answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self.told = sharing
        self._send(messages.Configure(number=number, sharing=sharing))
        return answer

    def take(self, answer: messages.Configured) -> None:
        """Note an answer, and hand it to who waits for it."""
        self.in_force = answer.sharing
        waiting = self._answers.pop(answer.number, None)
        # None where it was given up already: the worker is being stopped.
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def close(self) -> None:
        """Let everyone know that no more answers come."""
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result(None)
        self._answers.clear()
