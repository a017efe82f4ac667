"""The servers elsewhere that run one model: who they are now, and which takes the next request.

A server joins when it has said how it is, and is passed over while it fails. One that discovery no
longer names takes no new requests, and is left once those under way have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelUnavailableError
from mm_orch.core.events import CircuitChanged, ErrorOccurred, WorkerStateChanged
from mm_orch.core.fleet_events import EndpointChanged, EndpointChosen
from mm_orch.optimization.circuit import CircuitState
from mm_orch.optimization.news import News
from mm_orch.remote.endpoint import Endpoint
from mm_orch.remote.wire import ENGINE
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from mm_orch.core.clock import Clock
    from mm_orch.core.endpoints import Endpoints
    from mm_orch.core.events import Observer
    from mm_orch.core.fleet_events import EndpointChange
    from mm_orch.core.generation import GenerationOptions
    from mm_orch.remote.discovery import Address
    from mm_orch.remote.placing import Placed, Placing
    from mm_orch.remote.prompt_view import PromptView
    from mm_orch.remote.server import RemoteServer
    from mm_orch.remote.sources import Sources

logger = logging.getLogger(__name__)

_MIN_RETRY_S = 1.0
_MAX_TOLD = 3


class RemoteFleet:
    """Every server that runs a model; one is a fleet too.

    Args:
        model: our name for it.
        sources: say which servers there are.
        make_server: makes what talks to one; is given what to call when it changes.
        placing: chooses between those that are well.

    Attributes:
        news: of every change of one of them.
    """

    def __init__(
        self,
        model: str,
        sources: Sources,
        *,
        make_server: Callable[[Address, Callable[[], None]], RemoteServer],
        placing: Placing,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.model = model
        self.placing = placing
        self.news = News()
        self._sources = sources
        self._make_server = make_server
        self._observer = observer
        self._clock = clock
        self._numbers = itertools.count()
        self._endpoints: dict[Address, Endpoint] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._has_begun = False
        self._was_up = False
        self._last_circuit = CircuitState.CLOSED

    def name(self, entries: Collection[Endpoints]) -> None:
        """Have these say from now on which servers there are; those that none names leave."""
        self._sources.name(entries)

    async def run(self) -> None:
        """Look for servers and ask them how they are, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._follow_sources()
            self._has_begun = True
            self._sources.follow(tasks, self._follow_sources)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                # What the servers say from here on is that they are being stopped.
                self._tasks = None
                self._sources.end()

    @property
    def endpoints(self) -> list[Endpoint]:
        """All servers, those that leave too."""
        return list(self._endpoints.values())

    @property
    def num_ready(self) -> int:
        """Servers that take requests now."""
        return len(self._ready)

    @property
    def phase(self) -> ModelPhase:
        """Ready while any server is; loading until one has answered, or discovery found none."""
        phases = {one.server.phase for one in self._staying}
        if ModelPhase.READY in phases:
            return ModelPhase.READY
        if ModelPhase.LOADING in phases or self._sources.is_unknown or not self._has_begun:
            return ModelPhase.LOADING
        return ModelPhase.FAILED

    @property
    def circuit_state(self) -> CircuitState:
        """The best of its servers' circuits."""
        states = {one.server.circuit.state for one in self._staying}
        best_first = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)
        return next((state for state in best_first if state in states), CircuitState.CLOSED)

    @property
    def detail(self) -> str:
        """What is wrong with all of them, for people; empty while any is well."""
        if (phase := self.phase) is not ModelPhase.FAILED:
            return "" if phase is ModelPhase.READY else "not asked yet"
        if not self._staying:
            asked = [
                f"{one.name}: {one.trouble or 'names none'}" for one in self._sources.discoveries
            ]
            return f"no server of it is known ({'; '.join(asked)})"
        return self._tell_failures()

    @property
    def troubles(self) -> list[str]:
        """What is wrong though requests are answered, for people."""
        num_failed = sum(one.state == "failed" for one in self._staying)
        told = []
        if num_failed:
            told = [f"{num_failed} of {len(self._staying)} servers fail: {self._tell_failures()}"]
        return told + [
            f"{one.name} cannot be asked for servers: {one.trouble}"
            for one in self._sources.discoveries
            if one.trouble
        ]

    async def wait_until_ready(self, *, patience_s: float = 0.0) -> None:
        """Wait for the first answer to how they are, and so long for a better one.

        Raises:
            ModelUnavailableError: none serves the model now.
        """
        while self.phase is ModelPhase.LOADING:
            await self.news.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.phase is not ModelPhase.READY:
                    await self.news.wait()
        if self.phase is not ModelPhase.READY:
            waits_s = [one.server.circuit.wait_s for one in self._staying]
            raise ModelUnavailableError(
                f"Model {self.model} cannot be served: {self.detail}",
                retry_after_s=max(_MIN_RETRY_S, min(waits_s, default=0.0)),
            )

    async def choose(
        self, prompt: PromptView, *, avoid: Collection[Endpoint] = (), patience_s: float = 0.0
    ) -> Placed:
        """Return where a request goes that is given to the server at once.

        Args:
            prompt: the request's.
            avoid: those that have failed it; taken where no other is left.
            patience_s: wait so long for one that is well.

        Raises:
            ModelUnavailableError: none is.
        """
        await self.wait_until_ready(patience_s=patience_s)
        candidates = self.find_others(avoid) or self._ready
        now_s = self._clock()
        rested = [one for one in candidates if one.server.rests_until_s <= now_s] or candidates
        placed = self.placing.choose(rested, prompt)
        self._observer.observe(
            EndpointChosen(
                model=self.model,
                address=placed.endpoint.server.address.url,
                rule=placed.choice.rule.value,
                num_queued_tokens=placed.endpoint.queued.total,
            )
        )
        return placed

    def find_others(self, than: Collection[Endpoint]) -> list[Endpoint]:
        """Return the servers that are well, but for these."""
        return [one for one in self._ready if one not in than]

    @contextlib.contextmanager
    def carrying(self, placed: Placed, options: GenerationOptions) -> Iterator[None]:
        """Count a request as its server's for as long as this is entered."""
        try:
            with placed.queued(options):
                yield
        finally:
            if placed.endpoint.is_leaving and not placed.endpoint.num_requests:
                self._drop(placed.endpoint)

    @property
    def _staying(self) -> list[Endpoint]:
        return [one for one in self._endpoints.values() if not one.is_leaving]

    @property
    def _ready(self) -> list[Endpoint]:
        return [one for one in self._endpoints.values() if one.state == "ready"]

    def _tell_failures(self) -> str:
        failed = [one.server for one in self._staying if one.state == "failed"]
        if len(self._staying) == 1:
            return failed[0].detail
        told = [f"{one.address.url}: {one.detail}" for one in failed[:_MAX_TOLD]]
        more = len(failed) - len(told)
        return "; ".join([*told, *([f"and {more} more"] if more else [])])

    def _follow_sources(self) -> None:
        """Let servers come and go as the sources say."""
        if self._tasks is None:
            return
        wanted = self._sources.wanted
        for address in sorted(wanted - self._endpoints.keys()):
            self._add(address, self._tasks)
        for address, endpoint in list(self._endpoints.items()):
            is_leaving = address not in wanted
            if is_leaving == endpoint.is_leaving:
                continue
            endpoint.is_leaving = is_leaving
            self._tell_of(endpoint)
            if is_leaving and not endpoint.num_requests:
                self._drop(endpoint)
        self._tell()

    def _add(self, address: Address, tasks: asyncio.TaskGroup) -> None:
        server = self._make_server(address, lambda: self._note(address))
        endpoint = self._endpoints[address] = Endpoint(server, next(self._numbers))
        self._state("found", endpoint)
        endpoint.task = tasks.create_task(server.run(), name=f"ask {address.url} for {self.model}")

    def _drop(self, endpoint: Endpoint) -> None:
        if self._endpoints.pop(endpoint.server.address, None) is not None:
            if endpoint.task is not None:
                endpoint.task.cancel()
            self.placing.forget(endpoint)
            self._state("left", endpoint)

    def _note(self, address: Address) -> None:
        """Take that a server is otherwise than before."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None and self._tasks is not None:
            self._tell_of(endpoint)
        self._tell()

    def _tell_of(self, endpoint: Endpoint) -> None:
        state = endpoint.state
        if state == endpoint.last_state:
            return
        endpoint.last_state = state
        match state:
            case "ready":
                self._state("joined", endpoint)
            case "failed":
                # It may come back as another process, with an empty memory.
                self.placing.forget(endpoint)
                logger.error("%s: %s", self.model, endpoint.server.detail)
                self._observer.observe(
                    ErrorOccurred(component="remote", error_type="EngineCrashedError")
                )
                self._state("failed", endpoint)
            case "leaving":
                self._state("leaving", endpoint)
            case "joining":
                self._state("found", endpoint)

    def _state(self, change: EndpointChange, endpoint: Endpoint) -> None:
        address = endpoint.server.address.url
        logger.info("%s: %s %s", self.model, address, change)
        self._observer.observe(
            EndpointChanged(
                model=self.model,
                address=address,
                change=change,
                num_by_state=dict(Counter(one.state for one in self._endpoints.values())),
            )
        )

    def _tell(self) -> None:
        """Say how the whole is, where that is new, and wake who waits for a change."""
        if self._tasks is not None:
            is_up = self.phase is ModelPhase.READY
            if is_up != self._was_up:
                self._was_up = is_up
                self._observer.observe(
                    WorkerStateChanged(
                        model=self.model, engine=ENGINE, is_up=is_up, reason=self.detail
                    )
                )
            if (circuit := self.circuit_state) is not self._last_circuit:
                self._last_circuit = circuit
                self._observer.observe(
                    CircuitChanged(model=self.model, engine=ENGINE, state=circuit.value)
                )
        self.news.tell()
