"""What a worker owes its server: the streams of sequences and texts that have not ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.workers.embedding import VectorStream
from mm_orch.workers.failures import as_error
from mm_orch.workers.queued_tokens import QueuedTokens
from mm_orch.workers.stream import TokenStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mm_orch.core.errors import MuAIError
    from mm_orch.workers import messages


class OpenStreams:
    """Routes what a worker reports to who waits for it.

    Attributes:
        queued: what all of them have still to have computed.
    """

    def __init__(self) -> None:
        self.queued = QueuedTokens()
        self._stream_by_id: dict[str, TokenStream | VectorStream] = {}
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __bool__(self) -> bool:
        return bool(self._stream_by_id)

    async def wait_until_empty(self) -> None:
        """Wait until each has ended."""
        await self._is_empty.wait()

    def add(self, ids: Iterable[str], stream: TokenStream | VectorStream) -> None:
        """Route news of these sequences or texts to a stream."""
        self._stream_by_id.update(dict.fromkeys(ids, stream))
        self._is_empty.clear()

    def forget(self, one_id: str) -> TokenStream | VectorStream | None:
        """Route no more news of this one; return the stream that it was routed to."""
        stream = self._stream_by_id.pop(one_id, None)
        self.queued.drop(one_id)
        if not self._stream_by_id:
            self._is_empty.set()
        return stream

    def deliver(self, step: messages.StepDone) -> None:
        """Hand on what a step has brought."""
        for started in step.started:
            if stream := self._stream_by_id.get(started.sequence_id):
                stream.put(started)
        for chunk in step.chunks:
            stream = self._stream_by_id.get(chunk.sequence_id)
            if isinstance(stream, TokenStream):
                stream.batch_size = step.batch_size
                stream.put(chunk)
                self.queued.advance(chunk.sequence_id, len(chunk.token_ids))
                if chunk.finish_reason is not None:
                    self.forget(chunk.sequence_id)
        for vector in step.vectors:
            self.queued.advance(vector.text_id, 0)
            stream = self.forget(vector.text_id)
            if isinstance(stream, VectorStream):
                stream.put(vector)
        for failure in step.failures:
            if stream := self.forget(failure.sequence_id):
                stream.fail(as_error(failure))

    def fail_all(self, make_error: Callable[[int], MuAIError]) -> None:
        """End each with an error, which is told how many requests are lost."""
        streams = set(self._stream_by_id.values())
        for stream in streams:
            stream.fail(make_error(len(streams)))
        self._stream_by_id.clear()
        self.queued.clear()
        self._is_empty.set()
