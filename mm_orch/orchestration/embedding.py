"""Owns one request to embed texts from admission to its vectors.

The answer is whole or none, so a worker that is lost costs nothing but time: the whole request is
given to the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.errors import EngineError
from mm_orch.optimization.replica_set import Wish
from mm_orch.orchestration.account import RequestAccount
from mm_orch.orchestration.generation import Embeddings
from mm_orch.orchestration.limits import check_priority
from mm_orch.orchestration.measuring import TextMeter
from mm_orch.orchestration.running import Deadline
from mm_orch.orchestration.tasks import check_task
from mm_orch.orchestration.vectors import as_array, check_dimensions, encode_inputs
from mm_orch.workers.messages import TextOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from mm_orch.core.clock import Clock
    from mm_orch.core.embedding import EmbeddingRequest
    from mm_orch.core.events import Observer
    from mm_orch.core.generation import SequenceStarted
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.entrance import Entrance
    from mm_orch.orchestration.failover import Replays
    from mm_orch.orchestration.model_text import ModelText
    from mm_orch.orchestration.ticket import Ticket
    from mm_orch.workers.worker import Worker


class Lobby(Protocol):
    """What requests of all kinds share: the orchestrator, seen from here."""

    entrance: Entrance

    def waiting(self, model: str, deadline: Deadline) -> AbstractAsyncContextManager[None]:
        """Bound what is awaited for a model by the deadline, by its unloading, and by our end."""

    def make_replays(self, account: RequestAccount) -> Replays:
        """Return what decides whether a request may go on when its worker is lost."""

    async def ensure_text(self, model: str) -> ModelText:
        """Return the model's tokeniser and recipe."""


class EmbeddingOrchestrator:
    """Takes requests; implements orchestration.generation.MeasuringEmbedder.

    Args:
        choose_model: gives the model that a request's ``model`` field means; the router's part.
        lobby: shared with the requests that generate.
        request_timeout_s: of requests that set none.
    """

    def __init__(
        self,
        *,
        choose_model: Callable[[str | None], str],
        lobby: Lobby,
        manager: OptimizationManager,
        observer: Observer,
        clock: Clock,
        request_timeout_s: float,
    ) -> None:
        self._choose_model = choose_model
        self._lobby = lobby
        self._manager = manager
        self._observer = observer
        self._clock = clock
        self._request_timeout_s = request_timeout_s
        self._numbers = itertools.count()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Admit the request and compute its vectors; cancelling stops what still runs.

        Raises:
            RequestError: the caller's; nothing was computed.
            OverloadError: the queue is full, the server drains, the model cannot be had now.
            DeadlineError: the time was over first.
            EngineError: a text cannot be embedded, or several workers ended one after another.
        """
        deadline = Deadline(request.timeout_s or self._request_timeout_s)
        with RequestAccount(
            request.request_id,
            operation="embeddings",
            caller=request.caller,
            observer=self._observer,
            clock=self._clock,
        ) as account:
            check_priority(request.priority)
            account.model = self._choose_model(request.model)
            check_task(self._manager.plans, account.model, "embed")
            replays = self._lobby.make_replays(account)
            with (
                self._lobby.entrance.place(
                    account, deadline, priority=request.priority, content=request.inputs
                ) as ticket,
                self._manager.using(account.model),
                contextlib.closing(replays),
            ):
                async with self._lobby.waiting(account.model, deadline):
                    found = await self._run(request, account, replays, ticket)
            account.complete()
            return found

    async def find_meter(self, model: str | None) -> TextMeter:
        """Return what counts the tokens of texts; see MeasuringEmbedder."""
        name = self._choose_model(model)
        check_task(self._manager.plans, name, "embed")
        # Who measures is going to ask: the worker loads meanwhile.
        self._manager.ensure_started(name)
        return TextMeter(await self._lobby.ensure_text(name))

    async def _run(
        self,
        request: EmbeddingRequest,
        account: RequestAccount,
        replays: Replays,
        ticket: Ticket,
    ) -> Embeddings:
        # The worker loads while the texts are tokenised.
        self._manager.ensure_started(account.model)
        text = await self._lobby.ensure_text(account.model)
        encoded = await asyncio.to_thread(encode_inputs, request.inputs, text)
        account.num_prompt_tokens = sum(map(len, encoded))
        account.route()
        # However many texts it brings: in the worker's batches all requests take turns.
        await self._lobby.entrance.gate.enter(
            ticket, num_sequences=1, num_tokens=account.num_prompt_tokens
        )
        account.pass_gate()

        def begin(started: SequenceStarted) -> None:
            self._lobby.entrance.begin(ticket)
            account.start(started)

        wish = Wish(num_tokens=account.num_prompt_tokens)
        lost: EngineError | None = None
        worker: Worker | None = None
        while True:
            placed = await self._manager.place(account.model, replace(wish, lost=worker))
            worker = placed.worker
            fallback = self._manager.find_fallback(worker)
            check_dimensions(request.dimensions, worker.facts.dimensions, text)
            if lost is not None:
                replays.record(lost, account.engine, worker.engine)
            account.submit(worker.engine)
            try:
                vectors = await self._compute(worker, encoded, begin)
            except EngineError as error:
                account.lose(error)
                await replays.admit(worker, error)
                lost = error
                continue
            replays.record_success(worker)
            return Embeddings(
                vectors=await asyncio.to_thread(
                    as_array, vectors, worker.facts.dimensions, request.dimensions, text.recipe
                ),
                model=account.model,
                engine=account.engine,
                num_tokens=account.num_prompt_tokens,
                failovers=tuple(replays.failovers),
                fallback=fallback,
            )

    async def _compute(
        self,
        worker: Worker,
        encoded: list[tuple[int, ...]],
        begin: Callable[[SequenceStarted], None],
    ) -> list[bytes]:
        number = next(self._numbers)
        orders = [
            TextOrder(f"{number}/{index}", token_ids) for index, token_ids in enumerate(encoded)
        ]
        stream = worker.embed(orders, begin)
        try:
            return await stream.collect()
        finally:
            stream.close()
