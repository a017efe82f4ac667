"""The users of a soak: each does one thing after another, and books every request."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from benchmarks.soak_book import CUT, outcome_of
from benchmarks.soak_mix import Kind, draw_act
from mm_orch.benchmarking.client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.soak_book import Book
    from benchmarks.soak_mix import Act
    from mm_orch.benchmarking.client import Target

# Longer than a worker takes to be there again after its death.
_SILENCE_S = 120.0
_MAX_PAUSE_S = 0.4
_NOBODY = "nobody"


class Users:
    """So many of them at once.

    Args:
        target: the server.
        book: takes what they do.
        num_users: acts that go on at any time.
        seed: of all that they do.
    """

    def __init__(self, target: Target, book: Book, *, num_users: int, seed: int) -> None:
        self._target = target
        self._book = book
        self._dices = [
            random.Random(f"{seed} {number}")  # noqa: S311 - reproducible on purpose
            for number in range(num_users)
        ]

    async def work(self, duration_s: float) -> None:
        """Let all of them work; they begin nothing new after this time, and close connections."""
        client = Client(self._target, timeout_s=_SILENCE_S)
        end_s = time.monotonic() + duration_s
        try:
            async with asyncio.TaskGroup() as users:
                for dice in self._dices:
                    users.create_task(self._work_until(client, dice, end_s))
        finally:
            client.close()

    async def _work_until(self, client: Client, dice: random.Random, end_s: float) -> None:
        while time.monotonic() < end_s:
            await self._do(client, draw_act(dice))
            await asyncio.sleep(dice.uniform(0, _MAX_PAUSE_S))

    async def _do(self, client: Client, act: Act) -> None:
        if not act.questions:
            await self._ask(client, act, act.fields)
            return
        messages: list[dict[str, str]] = []
        for question in act.questions:
            messages.append({"role": "user", "content": question})
            answer = await self._ask(client, act, {**act.fields, "messages": messages})
            if answer is None:
                return
            messages.append({"role": "assistant", "content": answer})

    async def _ask(self, client: Client, act: Act, fields: Mapping[str, object]) -> str | None:
        """Send one request and book its end; return the text of a whole stream."""
        is_known = act.kind is not Kind.UNKNOWN_MODEL
        body = {"model": act.model if is_known else _NOBODY, **fields}
        request_id, sent = self._book.start(act), asyncio.Event()
        asking = asyncio.create_task(
            client.post(act.path, body, request_id=request_id, on_sent=sent.set)
        )
        if act.cut_after_s is not None:
            # Who left before would have asked nothing.
            asking.add_done_callback(lambda _: sent.set())
            await sent.wait()
            await asyncio.wait([asking], timeout=act.cut_after_s)
            if asking.cancel():
                await asyncio.wait([asking])
                self._book.end(act, CUT)
                return None
        reader = await asking
        self._book.end(act, outcome_of(reader.error))
        return reader.text if reader.error is None else None
