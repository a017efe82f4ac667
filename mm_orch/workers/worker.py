"""One worker process as the server sees it: start it, send it work, route what comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import msgspec
import zmq
import zmq.asyncio

from mm_orch.core.errors import EngineCrashedError, EngineHungError, EngineStartError
from mm_orch.core.events import StepCompleted
from mm_orch.core.place_errors import NodeLostError, NoPlaceError
from mm_orch.workers import messages
from mm_orch.workers.cache_news import CacheNews
from mm_orch.workers.connection import bind
from mm_orch.workers.embedding import VectorStream
from mm_orch.workers.failures import as_error
from mm_orch.workers.launching import describe_exit, start_process
from mm_orch.workers.log_tail import LogTail
from mm_orch.workers.open_streams import OpenStreams
from mm_orch.workers.orders import Orders
from mm_orch.workers.placement import is_of_place
from mm_orch.workers.stream import TokenStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.core.events import Observer
    from mm_orch.core.generation import SequenceStarted
    from mm_orch.kv_cache.cache import CacheStats
    from mm_orch.optimization.engines.contract import EngineFacts
    from mm_orch.workers.connection import ServerEnd

logger = logging.getLogger(__name__)

_SHUTDOWN_GRACE_S = 5.0
# After a process has ended, what it sent last may still be on its way.
_LAST_MESSAGES_MS = 200
# How a process on another machine ended is told a moment after its connection has.
_EXIT_NEWS_S = 2.0
# Far beyond any honest load; a worker that is stuck in one is replaced.
_LOAD_TIMEOUT_S = 1800.0


class Worker:
    """A running worker process.

    Life: ``await Worker.launch(...)``, then :meth:`wait_until_ready`, then :meth:`submit` at will
    while :meth:`watch` runs in a task of the owner; :meth:`stop` ends it.
    """

    def __init__(
        self,
        spec: messages.WorkerSpec,
        process: asyncio.subprocess.Process,
        socket: zmq.asyncio.Socket,
        server_end: ServerEnd,
        observer: Observer,
    ) -> None:
        self.model = spec.engine_spec.model
        self.engine = spec.engine
        self.num_running = 0
        self.num_waiting = 0
        self.cache: CacheStats | None = None
        self.spec = spec
        self.orders = Orders(spec.sharing, self._send)
        self._ready: messages.Ready | None = None
        self._server_end = server_end
        self._process = process
        self._socket = socket
        self._observer = observer
        self._cache_news = CacheNews(self.model, self.engine, observer, replica=spec.replica)
        self._streams = OpenStreams()
        # What it has still to compute of what it was given, and what it has computed.
        self.queued = self._streams.queued
        self._log = LogTail(process, name=f"{self.model} worker {process.pid}")
        self.is_dead = False
        # Held while the last messages are read: closing the socket would cancel the reader.
        self._reading = asyncio.Lock()
        self._kill_reason = ""
        # What its end is called.
        self.end_class: type[EngineCrashedError] = EngineCrashedError
        self._is_group_gone = False
        self._progress_at_s = time.monotonic()

    @classmethod
    async def launch(
        cls, spec: messages.WorkerSpec, *, context: zmq.asyncio.Context, observer: Observer
    ) -> Worker:
        """Start the process with a socket of its own; returns before the model is loaded.

        Raises:
            EngineStartError: the interpreter cannot be started.
        """
        socket = context.socket(zmq.PAIR)
        server_end = bind(socket, spec.placement)
        spec = msgspec.structs.replace(spec, address=server_end.address, key=server_end.key)
        try:
            process = await start_process(spec)
        except BaseException:
            server_end.close()
            socket.close()
            raise
        if process.stdin is not None:
            process.stdin.write(msgspec.json.encode(spec) + b"\n")
        return cls(spec, process, socket, server_end, observer)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it has loaded its model."""
        return self._ready is not None

    @property
    def facts(self) -> EngineFacts:
        """What the engine turned out to be; known once the worker is ready."""
        return self.ready.facts

    @property
    def ready(self) -> messages.Ready:
        """What it said when it was ready."""
        if self._ready is None:
            raise EngineStartError(f"The worker of {self.model} is not ready yet.")
        return self._ready

    @property
    def stalled_s(self) -> float | None:
        """Seconds since it last told of progress; None while it has nothing to do."""
        return time.monotonic() - self._progress_at_s if self._streams else None

    async def wait_until_idle(self) -> None:
        """Wait until every sequence given to it has ended, or its process has."""
        await self._streams.wait_until_empty()

    def kill(self, reason: str, error_class: type[EngineCrashedError] = EngineHungError) -> None:
        """End the process at once; :meth:`watch` then returns this reason, streams this error."""
        self._kill_reason, self.end_class = reason, error_class
        self._signal_group(signal.SIGKILL)

    async def wait_until_ready(self) -> None:
        """Wait for the model to be loaded.

        Raises:
            EngineStartError: the engine refused, or its process ended; with its last log lines.
                NoPlaceError where there was no place for it.
        """
        first = asyncio.ensure_future(self._socket.recv())
        ended = asyncio.ensure_future(self._process.wait())
        try:
            done, _ = await asyncio.wait(
                {first, ended}, return_when=asyncio.FIRST_COMPLETED, timeout=_LOAD_TIMEOUT_S
            )
            if not done:
                raise EngineStartError(
                    f"The {self.engine} worker of {self.model} is not ready after"
                    f" {_LOAD_TIMEOUT_S:g} s.{await self._log.last_words()}"
                )
            if not first.done():
                # A refusal may have been sent just before the end.
                await asyncio.wait({first}, timeout=_LAST_MESSAGES_MS / 1000)
            answer = messages.decode_from_worker(first.result()) if first.done() else None
        finally:
            first.cancel()
            ended.cancel()
            self._server_end.hide()
        match answer:
            case messages.Ready():
                self._ready = answer
            case messages.StartFailed(message=message, remedy=remedy):
                raise EngineStartError(message, remedy=remedy)
            case _:
                exit_code = await self._process.wait()
                has_no_place = is_of_place(self.spec.placement, exit_code)
                raise (NoPlaceError if has_no_place else EngineStartError)(
                    f"The {self.engine} worker of {self.model} ended before it was ready"
                    f" ({describe_exit(exit_code)}).{await self._log.last_words()}"
                )

    def embed(
        self, orders: Sequence[messages.TextOrder], on_start: Callable[[SequenceStarted], None]
    ) -> VectorStream:
        """Send the texts of one request to the worker and return where their vectors come.

        Raises:
            EngineCrashedError: the process has ended.
        """
        stream = VectorStream([order.text_id for order in orders], self._abort, on_start)
        self._open(messages.Embed(tuple(orders)), [order.text_id for order in orders], stream)
        for order in orders:
            self.queued.add(order.text_id, num_prompt_tokens=len(order.token_ids))
        return stream

    def submit(
        self, orders: Sequence[messages.SequenceOrder], *, num_held_tokens: int = 0
    ) -> TokenStream:
        """Send sequences to the worker and return the stream of what happens to them.

        Args:
            orders: the sequences.
            num_held_tokens: of each one's beginning that its cache is likely to hold.

        Raises:
            EngineCrashedError: the process has ended.
        """
        if self.spec.placement is not None:
            # Clocks of two machines have nothing to do with each other.
            orders = [msgspec.structs.replace(order, since_s=None) for order in orders]
        stream = TokenStream([order.sequence_id for order in orders], self._abort)
        ids = [order.sequence_id for order in orders]
        self._open(messages.Submit(sequences=tuple(orders)), ids, stream)
        for order in orders:
            self.queued.add(
                order.sequence_id,
                num_prompt_tokens=max(1, len(order.token_ids) - num_held_tokens),
                max_output_tokens=order.params.max_tokens,
            )
        return stream

    def release_conversation(self, conversation_id: str) -> None:
        """Have the worker free what only this conversation needs, between two steps."""
        if not self.is_dead:
            self._send(messages.ReleaseConversation(conversation_id))

    async def watch(self) -> str:
        """Route the worker's messages until its process ends; return how it ended.

        Every stream that was open then fails with :attr:`end_class`.

        Raises:
            msgspec.DecodeError: the worker said something that is no message; it still runs.
        """
        router = asyncio.create_task(self._route())
        ended = asyncio.create_task(self._process.wait())
        lost = asyncio.create_task(self._server_end.wait_until_lost())
        try:
            await asyncio.wait({router, ended, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not lost.done():
                # It never returns, so it has failed, and this raises why.
                await router
            router.cancel()
            async with self._reading:
                # Whoever stops the worker may have closed it by now.
                while not self._socket.closed and await self._socket.poll(_LAST_MESSAGES_MS):
                    self._take(await self._socket.recv())
            loss = "" if ended.done() else await self._give_up()
            how = self._kill_reason or loss or describe_exit(await ended)
            if not self._kill_reason and (loss or is_of_place(self.spec.placement, await ended)):
                self.end_class = NodeLostError
            # Whatever else it had started goes too, before anything is started in its place.
            self._signal_group(signal.SIGKILL)
            self._fail_streams(f"ended ({how}) while it was answering.")
            return how + await self._log.last_words()
        finally:
            for task in (router, ended, lost):
                task.cancel()
            await asyncio.gather(router, ended, lost, return_exceptions=True)

    async def stop(self, *, grace_s: float = _SHUTDOWN_GRACE_S) -> None:
        """End the process: ask, then terminate, then kill; free everything. Safe twice."""
        if self._socket.closed:
            # An earlier call that was cut short has killed it, and there is no way to ask any more.
            await self._wait_for_exit(grace_s)
            return
        # A worker whose reports nobody takes would wait for ever instead of hearing us.
        discarding = asyncio.create_task(self._discard_reports())
        try:
            if self._process.returncode is None:
                if self._ready is not None:
                    self._send(messages.Shutdown())
                    await self._wait_for_exit(grace_s)
                for number in (signal.SIGTERM, signal.SIGKILL):
                    if self._process.returncode is None:
                        self._signal_group(number)
                        await self._wait_for_exit(grace_s)
        finally:
            discarding.cancel()
            # It must not be reading when the socket goes.
            await asyncio.gather(discarding, return_exceptions=True)
            self._signal_group(signal.SIGKILL)
            self._fail_streams("was stopped.")
            self._server_end.close()
            self._log.close()
            async with self._reading:
                self._socket.close()

    def _open(
        self, message: messages.ToWorker, ids: Sequence[str], stream: TokenStream | VectorStream
    ) -> None:
        if self.is_dead:
            raise EngineCrashedError(f"The {self.engine} worker of {self.model} has ended.")
        if not self._streams:
            self._progress_at_s = time.monotonic()
        self._send(message)
        self._streams.add(ids, stream)

    def _send(self, message: messages.ToWorker) -> None:
        # Nothing waits here: with an unlimited queue ZeroMQ takes the message at once.
        self._socket.send(messages.encode(message))

    def _abort(self, sequence_ids: tuple[str, ...]) -> None:
        for sequence_id in sequence_ids:
            self._streams.forget(sequence_id)
        if not self.is_dead:
            self._send(messages.Abort(sequence_ids=sequence_ids))

    async def _give_up(self) -> str:
        """Take leave of a worker that is connected no more; say so where its end is not told."""
        # Nothing new is given to it; whose fault its end is must be known before streams go on.
        self.is_dead = True
        await self._wait_for_exit(_EXIT_NEWS_S)
        if self._process.returncode is not None:
            return ""
        self._signal_group(signal.SIGKILL)
        return "the connection to its machine was lost"

    async def _discard_reports(self) -> None:
        while True:
            await self._socket.recv()

    async def _route(self) -> None:
        while True:
            self._take(await self._socket.recv())

    def _take(self, data: bytes) -> None:
        message = messages.decode_from_worker(data)
        self._progress_at_s = time.monotonic()
        match message:
            case messages.StepDone():
                self._deliver(message)
            case messages.CacheChanged(cache):
                self.cache = cache
                self._cache_news.take(cache)
            case messages.Configured():
                if message.cache is not None:
                    self.cache = message.cache
                    self._cache_news.take(message.cache)
                self.orders.take(message)
            case messages.Ready() | messages.StartFailed():
                # Said once, before this is listened to.
                logger.warning("%s: the worker said twice that it has started", self.model)

    def _deliver(self, step: messages.StepDone) -> None:
        self.num_running, self.num_waiting = step.num_running, step.num_waiting
        self.cache = step.cache
        self._cache_news.take(step.cache, step.kv_use_ratio)
        self._streams.deliver(step)
        for reason, failure in {one.message: one for one in step.failures if one.stack}.items():
            error = as_error(failure)
            logger.error("%s: a step failed: %s", self.model, reason, exc_info=error)
        self._observer.observe(
            StepCompleted(
                model=self.model,
                engine=self.engine,
                phase=step.phase,
                batch_size=step.batch_size,
                duration_s=step.duration_s,
                replica=self.spec.replica,
                num_queued_tokens=self.queued.total,
            )
        )

    def _fail_streams(self, what: str) -> None:
        self.is_dead = True
        self.num_running = self.num_waiting = 0
        self._cache_news.forget()
        self.orders.close()
        self._streams.fail_all(
            lambda num_lost: self.end_class(
                f"The {self.engine} worker of {self.model} {what}",
                num_lost=num_lost,
                remedy="Send the request again: another worker is being started.",
            )
        )

    def _signal_group(self, number: signal.Signals) -> None:
        """Signal the worker and every process that it has started and that stayed with it."""
        if self._is_group_gone:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            # Its number may be another's from now on.
            self._is_group_gone = True

    async def _wait_for_exit(self, timeout_s: float) -> None:
        # Not asyncio.timeout: in a task that is being cancelled it is no bound before 3.11.4.
        ended = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({ended}, timeout=timeout_s)
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
