"""A request while its worker generates: reads the token stream, yields text, keeps the deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.errors import DeadlineError, MuAIError
from mm_orch.core.generation import SequenceStarted
from mm_orch.orchestration.assembly import ChoiceAssembler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.core.generation import TextDelta, TokenChunk, Usage
    from mm_orch.models.text import TextCodec
    from mm_orch.orchestration.account import RequestAccount
    from mm_orch.workers.stream import TokenStream


class Deadline:
    """The moment at which a request's time is over, on the event loop's clock."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.at_s = asyncio.get_running_loop().time() + timeout_s

    def error(self) -> DeadlineError:
        """Say that the time is over."""
        return DeadlineError(
            f"The request was not complete after {self.timeout_s:g} s.",
            remedy="Ask for fewer tokens, or raise timeout_s or api.request_timeout_s.",
        )


class RunningGeneration:
    """The generation that a reader iterates; implements orchestration.generation.Generation."""

    def __init__(
        self,
        stream: TokenStream,
        *,
        account: RequestAccount,
        assemblers: dict[str, ChoiceAssembler],
        deadline: Deadline,
        on_start: Callable[[], None],
    ) -> None:
        self.request_id = account.request_id
        self.model = account.model
        self.engine = account.engine
        self._stream = stream
        self._account = account
        self._assemblers = assemblers
        self._deadline = deadline
        self._on_start = on_start

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._account.usage

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        try:
            while not self._stream.is_done:
                delta = await self._next()
                if delta is not None:
                    yield delta
        except MuAIError as error:
            self._account.fail(error)
            raise

    def break_off(self, error: MuAIError) -> None:
        """End the generation early: the reader gets this error after what has arrived."""
        self._stream.fail(error)

    def close(self) -> None:
        """Stop what still runs; safe at any time."""
        self._stream.close()

    async def _next(self) -> TextDelta | None:
        try:
            async with asyncio.timeout_at(self._deadline.at_s):
                update = await self._stream.next()
        except TimeoutError:
            raise self._deadline.error() from None
        if isinstance(update, SequenceStarted):
            self._on_start()
            self._account.start(update)
            return None
        return self._take(update)

    def _take(self, chunk: TokenChunk) -> TextDelta | None:
        if chunk.token_ids:
            self._account.count_tokens(chunk.sequence_id, len(chunk.token_ids))
        delta = self._assemblers[chunk.sequence_id].push(chunk)
        if delta is not None and delta.finish_reason is not None:
            self._account.finish_choice(delta.finish_reason)
            # A stop string ends in the text, so the worker does not know of it yet.
            self._stream.close(chunk.sequence_id)
            if self._stream.is_done:
                self._account.complete()
        return delta


def make_assemblers(
    sequence_ids: list[str], codec: TextCodec, stop: tuple[str, ...]
) -> dict[str, ChoiceAssembler]:
    """Make one assembler a choice, by sequence id."""
    return {
        sequence_id: ChoiceAssembler(index, codec, stop)
        for index, sequence_id in enumerate(sequence_ids)
    }
