"""The server's end of a few sequences that a worker is generating."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.generation import SequenceStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mm_orch.core.errors import MuAIError
    from mm_orch.core.generation import TokenChunk


class TokenStream:
    """Yields what happens to its sequences, in order, until each has ended.

    Memory is bounded by the sequences' ``max_tokens``: a reader that stalls holds no more than
    one entry a token.
    """

    def __init__(
        self, sequence_ids: Iterable[str], abort: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._open_ids = set(sequence_ids)
        self._computing_ids = set(self._open_ids)
        self._abort = abort
        self.on_computed: Callable[[], None] | None = None
        """Called when the worker has ended the last of them, however slow their reader is."""
        self.batch_size = 0
        """How many sequences shared the last step of these."""
        self._updates: asyncio.Queue[SequenceStarted | TokenChunk | MuAIError] = asyncio.Queue()

    @property
    def is_done(self) -> bool:
        """Whether every sequence has ended."""
        return not self._open_ids

    def put(self, update: SequenceStarted | TokenChunk) -> None:
        """Take news of one sequence from the worker."""
        self._updates.put_nowait(update)
        if isinstance(update, SequenceStarted) or update.finish_reason is None:
            return
        self._computing_ids.discard(update.sequence_id)
        if not self._computing_ids and self.on_computed is not None:
            self.on_computed()

    def fail(self, error: MuAIError) -> None:
        """End the stream: the reader gets everything put before, then the error."""
        self._updates.put_nowait(error)

    async def next(self) -> SequenceStarted | TokenChunk:
        """Wait for the next update.

        Raises:
            MuAIError: the stream was failed, mostly by the engine; it is over.
        """
        while True:
            update = await self._updates.get()
            if isinstance(update, Exception):
                self.close()
                raise update
            # What had come of a sequence before it was closed is of no interest any more.
            if update.sequence_id in self._open_ids:
                break
        if not isinstance(update, SequenceStarted) and update.finish_reason is not None:
            self._open_ids.discard(update.sequence_id)
        return update

    def close(self, sequence_id: str | None = None) -> None:
        """Abort what has not ended: one sequence, or all of them; safe at any time."""
        leaving = self._open_ids if sequence_id is None else self._open_ids & {sequence_id}
        self._computing_ids -= leaving
        if leaving:
            self._abort(tuple(leaving))
            self._open_ids = self._open_ids - leaving
