"""A request while workers generate it: reads tokens, yields text, keeps the deadline, goes on.

A worker that is lost does not end the answer: what is missing is asked of another one, and the
reader sees the same stream go on.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from mm_orch.core.errors import (
    DeadlineError,
    EngineError,
    EngineFailedError,
    FailoverError,
    MuAIError,
    UnsupportedError,
)
from mm_orch.core.fallback import Fallback
from mm_orch.core.generation import SequenceStarted
from mm_orch.optimization.replica_set import Placed
from mm_orch.orchestration.failover import cannot_resume
from mm_orch.orchestration.progress import Choice, check_supported, find_obstacle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.core.fallback import Failover
    from mm_orch.core.generation import GenerationOptions, TextDelta, TokenChunk, Usage
    from mm_orch.core.routing import Routing
    from mm_orch.optimization.engines.contract import EngineFacts
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.optimization.replica_set import Wish
    from mm_orch.optimization.residents import Use
    from mm_orch.orchestration.account import RequestAccount
    from mm_orch.orchestration.failover import Replays
    from mm_orch.workers.stream import TokenStream
    from mm_orch.workers.worker import Worker


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
    """The generation that a reader iterates; implements orchestration.generation.Generation.

    Args:
        make_choices: gives the choices, in order of their index, as an engine can take them.
        vocab_size: token ids are below it; anything else is an engine's fault.
        manager: gives running workers.
        wish: by what they are chosen.
        use: keeps the model in memory.
        on_start: called when the first step has run.
        on_computed: called when the worker has done all that it was asked for, read or not.
    """

    def __init__(
        self,
        make_choices: Callable[[EngineFacts], list[Choice]],
        *,
        account: RequestAccount,
        options: GenerationOptions,
        vocab_size: int,
        deadline: Deadline,
        replays: Replays,
        manager: OptimizationManager,
        wish: Wish,
        use: Use,
        on_start: Callable[[], None],
        on_computed: Callable[[], None],
    ) -> None:
        self.request_id = account.request_id
        self.model = account.model
        self.fallback: Fallback | None = None
        self._make_choices = make_choices
        # Made when the first engine is known.
        self._choices: list[Choice] = []
        self._choice_by_id: dict[str, Choice] = {}
        self._account = account
        self._options = options
        self._vocab_size = vocab_size
        self._deadline = deadline
        self._replays = replays
        self._manager = manager
        self._wish = wish
        self._worker: Worker | None = None
        self._use = use
        self._on_start = on_start
        self._on_computed = on_computed
        self._num_submits = 0
        self._stream: TokenStream | None = None
        self._broken_off: MuAIError | None = None
        # The bound on the search for another worker, while it lasts.
        self._recovery: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def failovers(self) -> list[Failover]:
        """How it went on when workers were lost."""
        return self._replays.failovers

    @property
    def engine(self) -> str:
        """The engine that answers now."""
        return self._account.engine

    @property
    def routing(self) -> Routing:
        """What was chosen for the request."""
        return self._account.routing

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._account.usage

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        # One timer a request: a bound on each wait would cost as much as a token does elsewhere.
        self._timer = asyncio.get_running_loop().call_at(
            self._deadline.at_s, self.break_off, self._deadline.error()
        )
        try:
            while not all(choice.is_finished for choice in self._choices):
                delta = await self._next()
                if delta is not None:
                    yield delta
        except MuAIError as error:
            self._account.fail(error)
            raise

    async def submit(self, lost: EngineError | None = None) -> None:
        """Give what is missing to a worker, the first time or after the last one was lost.

        Raises:
            UnsupportedError: the engine cannot do what the request asks.
            ModelUnavailableError, EngineError: there is none that could go on.
        """
        while True:
            placed = await self._find_worker(lost)
            worker = self._worker = placed.worker
            missing = [choice for choice in self._choices if not choice.is_finished]
            since_s = self._account.submit(worker.engine)
            orders = [
                choice.order_of_rest(self._num_submits, since_s=since_s) for choice in missing
            ]
            self._num_submits += 1
            try:
                self._stream = worker.submit(orders, num_held_tokens=placed.num_held_tokens)
            except EngineError as error:
                # It ended between the two lines.
                self._account.lose(error)
                await self._replays.admit(worker, error)
                continue
            self._stream.on_computed = self._on_computed
            self._choice_by_id = {
                order.sequence_id: choice for order, choice in zip(orders, missing, strict=True)
            }
            return

    def break_off(self, error: MuAIError) -> None:
        """End the generation early: the reader gets this error after what has arrived."""
        self._broken_off = error
        if self._recovery is not None:
            self._recovery.reschedule(asyncio.get_running_loop().time())
        elif self._stream is not None:
            self._stream.fail(error)

    async def aclose(self) -> None:
        """Stop what still runs; safe at any time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._stream is not None:
            self._stream.close()
        self._replays.close()

    async def _find_worker(self, lost: EngineError | None) -> Placed:
        """Return a worker that can do what is asked: one of the model's, else its stand-in's."""
        wish = replace(self._wish, lost=self._worker)
        placed = await self._manager.place(self.model, wish, self._use)
        worker = placed.worker
        self.fallback = self._manager.find_fallback(worker)
        try:
            self._fit(worker, lost)
        except (UnsupportedError, FailoverError) as refusal:
            stand_in = await self._manager.acquire_stand_in(self.model, self._use)
            if stand_in is None:
                raise
            self._fit(stand_in, lost)
            self.fallback = Fallback(worker.engine, stand_in.engine, refusal.message)
            self._account.redirect(self.fallback)
            return Placed(stand_in)
        return placed

    def _fit(self, worker: Worker, lost: EngineError | None) -> None:
        """Make of the request what the worker's engine can take, or raise why it cannot."""
        check_supported(self._options, worker)
        self._choices = self._choices or self._make_choices(worker.facts)
        obstacle = find_obstacle(self._options, self._choices, worker.facts)
        if lost is not None and obstacle:
            raise cannot_resume(worker.engine, obstacle, lost) from lost

    async def _next(self) -> TextDelta | None:
        try:
            return await self._read()
        except EngineError as error:
            await self._fail_over(error)
            return None

    async def _read(self) -> TextDelta | None:
        if self._stream is None:
            raise EngineFailedError("The request was read before it was submitted.")
        update = await self._stream.next()
        if isinstance(update, SequenceStarted):
            self._on_start()
            self._account.start(update)
            return None
        return self._take(update, self._stream)

    def _take(self, chunk: TokenChunk, stream: TokenStream) -> TextDelta | None:
        if any(not 0 <= token_id < self._vocab_size for token_id in chunk.token_ids):
            stream.close()
            raise EngineFailedError(
                f"{self.engine} answered with token ids {list(chunk.token_ids)[:8]}; the"
                f" vocabulary of {self.model} is 0 to {self._vocab_size - 1}."
            )
        if chunk.token_ids:
            self._account.count_tokens(chunk.sequence_id, len(chunk.token_ids), stream.batch_size)
        delta = self._choice_by_id[chunk.sequence_id].take(chunk)
        if delta is not None:
            self._account.num_reasoning_tokens += delta.num_reasoning_tokens
            if self._account.content is not None:
                self._account.content.take(delta)
        if delta is not None and delta.finish_reason is not None:
            self._account.finish_choice(delta.finish_reason)
            # A stop string ends in the text, so the worker does not know of it yet.
            stream.close(chunk.sequence_id)
            if all(choice.is_finished for choice in self._choices):
                self._account.complete()
                if self._worker is not None:
                    self._replays.record_success(self._worker)
        return delta

    async def _fail_over(self, error: EngineError) -> None:
        """Go on with another worker, or raise why not."""
        self._account.lose(error)
        if self._stream is not None:
            self._stream.close()
        lost_engine = self.engine
        num_delivered = sum(len(choice.token_ids) for choice in self._choices)
        try:
            async with asyncio.timeout_at(self._deadline.at_s) as self._recovery:
                if self._worker is not None:
                    await self._replays.admit(self._worker, error)
                await self.submit(lost=error)
        except TimeoutError:
            raise (self._broken_off or self._deadline.error()) from error
        finally:
            self._recovery = None
        self._replays.record(error, lost_engine, self.engine, num_delivered_tokens=num_delivered)
