"""Owns one request from admission to its last token: combines admission, preparation, workers."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from mm_orch.core.errors import (
    DrainingError,
    ModelBusyError,
    ModelStoreError,
    ModelUnavailableError,
    OverloadError,
    RequestError,
)
from mm_orch.core.generation import ChatPrompt
from mm_orch.core.routing import AUTO
from mm_orch.optimization.replica_set import wish_of
from mm_orch.orchestration.account import UNKNOWN, RequestAccount
from mm_orch.orchestration.entrance import Entrance
from mm_orch.orchestration.failover import Replays
from mm_orch.orchestration.gate import Gate, find_bound
from mm_orch.orchestration.limits import check_priority
from mm_orch.orchestration.measuring import ChatMeter, GuessingMeter
from mm_orch.orchestration.model_text import load_model_text
from mm_orch.orchestration.preparation import fit_to_engine, prepare
from mm_orch.orchestration.progress import make_choices
from mm_orch.orchestration.remote import RemoteGeneration
from mm_orch.orchestration.running import Deadline, RunningGeneration
from mm_orch.orchestration.tasks import check_task
from mm_orch.orchestration.under_way import UnderWay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.core.generation import GenerationRequest
    from mm_orch.core.guide import Guide
    from mm_orch.core.routing import ModelChoice
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.optimization.residents import Use
    from mm_orch.orchestration.admission import Admission
    from mm_orch.orchestration.model_text import ModelText
    from mm_orch.orchestration.ticket import Ticket

_FETCH_RETRY_S = 5.0
# What a process manager takes to start another server.
_RESTART_S = 10.0


class Orchestrator:
    """Takes requests; implements orchestration.generation.RunGenerator and Meters.

    Args:
        find_model: gives the model that a request's ``model`` field means; the router's part.
        choose_model: gives the one for a request that leaves it open; the router's part too.
        request_timeout_s: of requests that set none.
        find_reason: says why answers cannot be kept to a guide; empty when they can.
        max_failovers: how often a request may go on with another worker.
        is_keeping_content: state prompts and answers with the end of each request.
    """

    def __init__(
        self,
        *,
        find_model: Callable[[str | None], str],
        choose_model: Callable[[GenerationRequest], ModelChoice],
        admission: Admission,
        manager: OptimizationManager,
        observer: Observer,
        clock: Clock,
        request_timeout_s: float,
        find_reason: Callable[[Guide], str],
        max_failovers: int,
        is_keeping_content: bool = False,
    ) -> None:
        self._find_model = find_model
        self._choose_model = choose_model
        self._admission = admission
        self._manager = manager
        self._observer = observer
        self._clock = clock
        self._request_timeout_s = request_timeout_s
        self._find_reason = find_reason
        self._max_failovers = max_failovers
        self._is_keeping_content = is_keeping_content
        # One suspect of a model runs at a time, so that it is known which of them kills workers.
        self._quarantines: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._texts: dict[str, asyncio.Task[ModelText]] = {}
        self._under_way = UnderWay()
        self._is_stopping = False
        gate = Gate(lambda model: find_bound(manager, model))
        # Who waits there goes on when a worker joins, though nobody comes or leaves.
        for model, news in manager.news.items():
            news.follow(partial(gate.wake, model))
        self.entrance = Entrance(admission, gate, observer)
        # Request ids may come from clients and repeat; these do not.
        self._numbers = itertools.count()

    @asynccontextmanager
    async def open(
        self, request: GenerationRequest
    ) -> AsyncIterator[RunningGeneration | RemoteGeneration]:
        """Admit, prepare and start a request; leaving the context before its end cancels it.

        Raises:
            RequestError: the caller's; nothing was started.
            OverloadError: the queue is full, the server drains, the model cannot be had now.
            DeadlineError: the time was over before a worker was found.
            EngineError: the worker ended in the moment of submission.
        """
        deadline = Deadline(request.timeout_s or self._request_timeout_s)
        with self._make_account(request) as account:
            if self._is_keeping_content:
                account.keep_content(request.prompt)
            check_priority(request.priority)
            if request.model == AUTO:
                account.choice = self._choose_model(request)
            account.model = self._find_model(
                request.model if account.choice is None else account.choice.model
            )
            check_task(self._manager.plans, account.model, "generate")
            with (
                self.entrance.place(
                    account, deadline, priority=request.priority, content=request.prompt
                ) as ticket,
                self._manager.using(account.model) as use,
            ):
                generation = await self._start(request, account, ticket, deadline, use)
                try:
                    with self._under_way.answering(generation):
                        yield generation
                finally:
                    await generation.aclose()

    @contextmanager
    def enter_run(self, request: GenerationRequest) -> Iterator[Ticket]:
        """Hold a place for a run of a workflow; see RunEntrance."""
        timeout_s = request.timeout_s or self._request_timeout_s
        model = UNKNOWN
        with ExitStack() as stack:
            try:
                check_priority(request.priority)
                model = self._find_model(request.model)
                check_task(self._manager.plans, model, "generate")
                run = stack.enter_context(
                    self.entrance.place_run(
                        model,
                        caller=request.caller,
                        priority=request.priority,
                        timeout_s=timeout_s,
                        content=request.prompt,
                    )
                )
            except (RequestError, OverloadError):
                # Counted as the request that it would have been.
                with self._make_account(request) as account:
                    account.model = model
                    raise
            yield run

    def choose_model(self, request: GenerationRequest) -> ModelChoice:
        """Return the model that is best for a request; see ChoosesModels."""
        return self._choose_model(request)

    def release_conversation(self, conversation_id: str) -> None:
        """Have the workers free the KV blocks that only this conversation needs."""
        self._manager.release_conversation(conversation_id)

    async def load_model(self, model: str) -> None:
        """Load a model and wait until it is ready; see ModelLoader."""
        remote = self._manager.find_remote(model)
        async with self.waiting(model, Deadline(self._request_timeout_s)):
            if remote is not None:
                await remote.wait_until_ready()
                return
            with self._manager.using(model):
                await self._manager.acquire(model)

    async def unload_model(self, model: str, *, is_forced: bool = False) -> None:
        """Free a model's memory; see ModelLoader."""
        num_requests = self._admission.count_running(model) + self._admission.count_waiting(model)
        if num_requests and not is_forced:
            raise ModelBusyError(
                f"Model {model} has {num_requests} requests now.",
                remedy="Try again when they have ended, or break them off with ?force=true.",
            )
        self._under_way.break_off(lambda: _unloaded(model), model=model)
        await self._manager.unload(model)

    def drain_model(self, model: str) -> None:
        """Refuse new requests for one model until it is resumed; see ModelLoader."""
        self._admission.draining_models.add(model)

    def resume_model(self, model: str) -> None:
        """Let a model take requests again; see ModelLoader."""
        self._admission.draining_models.discard(model)

    def begin_drain(self, *, is_final: bool = False) -> None:
        """Refuse new requests from now on; those admitted go on.

        Args:
            is_final: the server is going to stop; nothing undoes this.
        """
        self._admission.is_draining = True
        self._is_stopping = self._is_stopping or is_final

    def end_drain(self) -> None:
        """Take requests again.

        Raises:
            DrainingError: the server is going to stop.
        """
        if self._is_stopping:
            raise DrainingError(
                "The server is shutting down, which cannot be undone.", retry_after_s=_RESTART_S
            )
        self._admission.is_draining = False

    async def wait_until_idle(self) -> None:
        """Wait until no request is admitted any more."""
        await self.entrance.wait_until_empty()

    def break_off_all(self) -> None:
        """End every request, running or waiting, with an error that its reader is told."""
        # What waits for something else would ask for more otherwise.
        self._admission.refuse_runs()
        self._under_way.break_off(_broken_off)

    async def find_meter(self, model: str | None) -> ChatMeter | GuessingMeter:
        """Return what counts a conversation's tokens for a model; see Meters."""
        name = self._find_model(model)
        check_task(self._manager.plans, name, "generate")
        if self._manager.find_remote(name) is not None:
            return GuessingMeter(self._manager.plans[name].context_length)
        # Who measures is going to ask: the worker loads meanwhile.
        self._manager.ensure_started(name)
        return ChatMeter(await self.ensure_text(name))

    async def ensure_text(self, model: str) -> ModelText:
        """Return the model's tokeniser and template, loading them once.

        Raises:
            ModelUnavailableError: the model's files cannot be had now.
        """
        task = self._texts.get(model)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._load_text(model), name=f"read tokeniser of {model}")
            self._texts[model] = task
        try:
            return await asyncio.shield(task)
        except ModelStoreError as error:
            raise ModelUnavailableError(
                f"Model {model} cannot be served: {error.message}",
                retry_after_s=_FETCH_RETRY_S,
                remedy=error.remedy,
            ) from error

    async def _load_text(self, model: str) -> ModelText:
        stored = await self._manager.ensure_files(model)
        context_length = self._manager.plans[model].bound_context(stored)
        return await asyncio.to_thread(load_model_text, stored, context_length)

    def _make_account(self, request: GenerationRequest) -> RequestAccount:
        return RequestAccount(
            request.request_id,
            operation=_operation_of(request),
            caller=request.caller,
            workflow=request.workflow,
            observer=self._observer,
            clock=self._clock,
        )

    async def _start(
        self,
        request: GenerationRequest,
        account: RequestAccount,
        ticket: Ticket,
        deadline: Deadline,
        use: Use,
    ) -> RunningGeneration | RemoteGeneration:
        remote = self._manager.find_remote(account.model)
        if remote is not None:
            async with self.waiting(account.model, deadline):
                await remote.wait_until_ready()
                account.route()
                await self._enter_gate(request, account, ticket)
            return RemoteGeneration(
                request,
                remote,
                account=account,
                deadline=deadline,
                max_retries=self._max_failovers,
                on_start=lambda: self.entrance.begin(ticket),
            )
        async with self.waiting(account.model, deadline):
            # The worker loads while the prompt is prepared.
            self._manager.ensure_started(account.model)
            text = await self.ensure_text(account.model)
            prepared = await asyncio.to_thread(prepare, request, text, self._find_reason)
            account.num_prompt_tokens = len(prepared.token_ids)
            account.route()
            await self._enter_gate(request, account, ticket)
            number = next(self._numbers)
            generation = RunningGeneration(
                lambda facts: make_choices(
                    number, fit_to_engine(request, prepared, facts), request
                ),
                account=account,
                options=request.options,
                vocab_size=text.vocab_size,
                deadline=deadline,
                replays=self.make_replays(account),
                manager=self._manager,
                wish=wish_of(prepared.token_ids, request.options, request.conversation_id),
                use=use,
                on_start=lambda: self.entrance.begin(ticket),
                on_computed=lambda: self.entrance.gate.leave(ticket),
            )
            await generation.submit()
            return generation

    def waiting(self, model: str, deadline: Deadline) -> AbstractAsyncContextManager[None]:
        """Bound what is awaited for a model by the deadline, by its unloading, and by our end."""
        return self._under_way.waiting(model, deadline)

    def make_replays(self, account: RequestAccount) -> Replays:
        """Return what decides whether a request may go on when its worker is lost."""
        return Replays(
            account,
            manager=self._manager,
            quarantine=self._quarantines[account.model],
            max_failovers=self._max_failovers,
        )

    async def _enter_gate(
        self, request: GenerationRequest, account: RequestAccount, ticket: Ticket
    ) -> None:
        await self.entrance.gate.enter(
            ticket,
            num_sequences=request.options.num_choices,
            num_tokens=account.num_prompt_tokens,
        )
        account.pass_gate()


def _operation_of(request: GenerationRequest) -> str:
    return "chat" if isinstance(request.prompt, ChatPrompt) else "text_completion"


def _unloaded(model: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"Model {model} was unloaded, which ended this request early.",
        retry_after_s=1.0,
        remedy="Send the request again: it loads the model.",
    )


def _broken_off() -> DrainingError:
    return DrainingError(
        "The server is shutting down and ended this answer early.", retry_after_s=1.0
    )
