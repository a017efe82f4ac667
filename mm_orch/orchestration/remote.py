"""A request that another server answers: reads its chunks, keeps the deadline, tries again early.

Another server's tokens are text here, so what it has said cannot be continued elsewhere: until its
first word a request is sent again, to another server where there is one; after it a fault ends the
answer.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import (
    EngineError,
    EngineFailedError,
    ModelUnavailableError,
    MuAIError,
)
from mm_orch.core.fallback import Failover
from mm_orch.core.generation import SequenceStarted
from mm_orch.remote.prompt_view import view
from mm_orch.remote.wire import ENGINE, body_of, path_of, read_deltas, read_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.core.generation import GenerationRequest, TextDelta, Usage
    from mm_orch.core.routing import Routing
    from mm_orch.orchestration.account import RequestAccount
    from mm_orch.orchestration.running import Deadline
    from mm_orch.remote.endpoint import Endpoint
    from mm_orch.remote.fleet import RemoteFleet
    from mm_orch.remote.placing import Placed

# A server that has just dropped a connection is often back at once.
_PATIENCE_S = 5.0


class RemoteGeneration:
    """The generation that a reader iterates; implements orchestration.generation.Generation.

    Args:
        fleet: the servers that run the model.
        max_retries: how often a request is sent again whose answer has not begun; a server that has
            no place for it does not count.
        on_start: called when the first chunk has come.
    """

    fallback = None
    engine = ENGINE

    def __init__(
        self,
        request: GenerationRequest,
        fleet: RemoteFleet,
        *,
        account: RequestAccount,
        deadline: Deadline,
        max_retries: int,
        on_start: Callable[[], None],
    ) -> None:
        self.request_id = account.request_id
        self.model = account.model
        self.failovers: list[Failover] = []
        self._request = request
        self._fleet = fleet
        self._prompt = view(request)
        self._placed: Placed | None = None
        self._tried: list[Endpoint] = []
        self._account = account
        self._deadline = deadline
        self._num_retries_left = max_retries
        self._on_start = on_start
        self._open = AsyncExitStack()
        self._events: AsyncIterator[Any] | None = None
        self._unfinished = set(range(request.options.num_choices))
        self._has_begun = False
        self._broken_off: MuAIError | None = None
        self._reading: asyncio.Timeout | None = None

    @property
    def routing(self) -> Routing:
        """What was chosen for the request."""
        return self._account.routing

    @property
    def usage(self) -> Usage:
        """Tokens so far; the server's own count once the answer has ended."""
        return self._account.usage

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        self._account.submit(ENGINE)
        try:
            while (chunk := await self._next()) is not None:
                for delta in read_deltas(chunk):
                    self._take(delta)
                    yield delta
                if (usage := read_usage(chunk)) is not None:
                    self._account.tell_usage(usage)
                    if self._placed is not None:
                        self._fleet.placing.learn(self._placed, usage)
            if self._unfinished:
                raise EngineFailedError(
                    f"The server of {self.model} ended its answer without a reason."
                )
        except MuAIError as error:
            # Whoever has the whole answer meets no fault. Where the server's count of its tokens is
            # missing, those that came were counted here.
            if self._unfinished:
                if isinstance(error, EngineError):
                    self._count(error)
                self._account.fail(error)
                raise
        if self._endpoint is not None:
            self._endpoint.server.record_success()

    def break_off(self, error: MuAIError) -> None:
        """End the generation early with this error."""
        self._broken_off = error
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Close the connection, which tells the server that nobody listens any more."""
        await self._open.aclose()

    @property
    def _endpoint(self) -> Endpoint | None:
        """The server that has the request now, where one has."""
        return self._placed.endpoint if self._placed else None

    async def _next(self) -> Any:
        """Return the next chunk, sending the request where there is none yet; None at the end."""
        if self._broken_off is not None:
            raise self._broken_off
        try:
            async with asyncio.timeout_at(self._deadline.at_s) as self._reading:
                while True:
                    try:
                        return await self._read()
                    except EngineError as error:
                        await self._try_again(error)
                    except ModelUnavailableError as error:
                        await self._ask_another(error)
        except TimeoutError:
            raise self._end_error() from None
        finally:
            self._reading = None

    def _end_error(self) -> MuAIError:
        return self._broken_off or self._deadline.error()

    async def _read(self) -> Any:
        if self._placed is None:
            self._placed = await self._fleet.choose(
                self._prompt, avoid=self._tried, patience_s=_PATIENCE_S
            )
            self._open.enter_context(self._fleet.carrying(self._placed, self._request.options))
        server = self._placed.endpoint.server
        if self._has_begun and self._events is not None:
            return await anext(self._events, None)
        async with server.while_reachable(self._has_another):
            if self._events is None:
                body = body_of(self._request, server.name_there)
                self._events = await self._open.enter_async_context(
                    server.stream(path_of(self._request), body)
                )
            return await anext(self._events, None)

    async def _try_again(self, error: EngineError) -> None:
        """Get ready to send the request once more, or raise the error."""
        if self._has_begun or self._num_retries_left == 0:
            raise error
        self._num_retries_left -= 1
        self._count(error)
        await self._leave(error)

    async def _ask_another(self, error: ModelUnavailableError) -> None:
        """Get ready to send the request to a server that was not asked yet, or raise the error."""
        if self._placed is None or not self._has_another():
            raise error
        await self._leave(error)

    def _has_another(self) -> bool:
        """Whether there is a server that was not asked yet."""
        tried = [*self._tried, *([self._endpoint] if self._endpoint else [])]
        return bool(self._fleet.find_others(tried))

    async def _leave(self, error: MuAIError) -> None:
        if self._endpoint is not None:
            self._tried.append(self._endpoint)
        note = Failover(ENGINE, ENGINE, 0, error.message.partition("\n")[0])
        self.failovers.append(note)
        self._account.lose(error)
        self._account.fail_over(note)
        self._account.submit(ENGINE)
        self._events, self._placed = None, None
        await self._open.aclose()
        self._open = AsyncExitStack()

    def _count(self, error: EngineError) -> None:
        if self._endpoint is not None:
            self._endpoint.server.count(error)

    def _take(self, delta: TextDelta) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._on_start()
            self._account.start(SequenceStarted(sequence_id=self.request_id, waited_s=0.0))
        if self._account.content is not None:
            self._account.content.take(delta)
        if delta.num_tokens:
            self._account.count_tokens(f"{self.request_id}/{delta.index}", delta.num_tokens)
            if self._placed is not None:
                self._placed.advance(delta.index, delta.num_tokens)
        if delta.finish_reason is not None:
            self._unfinished.discard(delta.index)
            self._account.finish_choice(delta.finish_reason)
            if not self._unfinished:
                self._account.complete()
