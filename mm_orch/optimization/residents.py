"""Owns the models in memory: makes room for one, lets others leave, measures what they take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from mm_orch.core.events import ErrorOccurred, ModelUnloaded
from mm_orch.optimization.footprint import measure_bytes
from mm_orch.optimization.residency import (
    Evict,
    Fits,
    Resident,
    Wait,
    find_excess,
    find_room,
    may_leave_at_s,
)
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.optimization.replica_set import ReplicaSet
    from mm_orch.optimization.supervisor import ModelSupervisor

logger = logging.getLogger(__name__)

_MEASURE_EVERY_S = 10.0
_TURN_TIMEOUT_S = 5.0
# Longer than it takes to look; only who waits for memory has the turn for longer.
_LOOK_S = 1.0
_MB = 2**20


class LoadedModel:
    """A model that is loaded or loading, and how it is used."""

    def __init__(self, replicas: ReplicaSet, now_s: float) -> None:
        self.replicas = replicas
        self.task: asyncio.Task[None] | None = None
        self.num_bytes = 0
        self.last_used_s = now_s

    @property
    def supervisor(self) -> ModelSupervisor:
        """That of the replica which speaks for the model."""
        return self.replicas.supervisor


class Use:
    """That a request keeps a model in memory, by the name under which it is there."""

    def __init__(self, name: str) -> None:
        self.name = name


class Residents:
    """All models in memory, within a budget that is compared with measured memory.

    Args:
        budget_bytes: for all of them together.
        max_models: most at once.
        expect_bytes: what a model is likely to take before it was ever measured.
        idle_unload_s: gives the seconds after which an idle model leaves, or None.
    """

    def __init__(
        self,
        *,
        budget_bytes: int,
        max_models: int,
        expect_bytes: Callable[[str], int],
        idle_unload_s: Callable[[str], float | None],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._max_models = max_models
        self._expect_bytes = expect_bytes
        self._idle_unload_s = idle_unload_s
        self._observer = observer
        self._clock = clock
        self._models: dict[str, LoadedModel] = {}
        self._num_uses: dict[str, int] = {}
        self._measured_bytes: dict[str, int] = {}
        # One model at a time gets a place, in the order in which they were asked for.
        self._turn = asyncio.Lock()
        # INVARIANT: only who holds this makes a model leave or counts room, so memory that is still
        # being freed is given to nobody, and nobody who makes others leave is stopped halfway.
        # Nobody waits for memory with it: that may end with nothing but an unloading.
        self._leaving = asyncio.Lock()
        self._changed = asyncio.Event()

    def find(self, name: str) -> LoadedModel | None:
        """Return a model that is loaded or loading."""
        return self._models.get(name)

    @property
    def loaded(self) -> list[LoadedModel]:
        """All that are loaded or loading."""
        return list(self._models.values())

    def add(self, name: str, model: LoadedModel) -> None:
        """Note a model that is going to load; it has its place when :meth:`make_room` returns."""
        self._models[name] = model

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[Use]:
        """Keep a model from leaving."""
        use = Use(name)
        self._begin(name)
        try:
            yield use
        finally:
            self._end(use.name)

    def move(self, use: Use, name: str) -> None:
        """Keep another model from leaving in place of the one so far."""
        if use.name != name:
            self._begin(name)
            self._end(use.name)
            use.name = name

    def _begin(self, name: str) -> None:
        self._num_uses[name] = self._num_uses.get(name, 0) + 1

    def _end(self, name: str) -> None:
        self._num_uses[name] -= 1
        if (model := self._models.get(name)) is not None:
            model.last_used_s = self._clock()
        self._tell()

    async def make_room(self, name: str) -> None:
        """Wait until the model may be loaded, letting others leave where that helps."""
        async with self._turn:
            while (obstacle := await self._take_place(name)) is not None:
                await self._wait_for_change(obstacle.until_s)

    async def _take_place(self, name: str) -> Wait | None:
        """Give the model its place, others leaving where that helps; return what it waits for."""
        async with self._leaving:
            while True:
                await self._measure()
                room = find_room(
                    self._expected(name),
                    self._residents(but=name),
                    budget_bytes=self.budget_bytes,
                    max_models=self._max_models,
                    now_s=self._clock(),
                )
                match room:
                    case Fits():
                        self._models[name].num_bytes = self._expected(name)
                        return None
                    case Evict(names):
                        await self._unload_idle(names, f"room for {name}")
                    case Wait():
                        self._models[name].supervisor.detail = room.reason
                        return room

    async def find_obstacle(self, name: str) -> str:
        """Return why another replica of a model cannot be loaded now; empty where it can.

        It takes memory that is free, and makes no model leave.
        """
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._turn.acquire()
        except TimeoutError:
            return "another model waits for memory"
        try:
            async with self._leaving:
                await self._measure()
                wanted = self._expected(name)
                free = self.budget_bytes - sum(one.num_bytes for one in self._models.values())
        finally:
            self._turn.release()
        if wanted <= free:
            return ""
        return (
            f"another replica takes {-(-wanted // _MB)} MiB, and of system.model_memory_mb"
            f" ({self.budget_bytes // _MB}) {max(0, free) // _MB} are free"
        )

    def count_fitting(self, name: str) -> int:
        """Return how many replicas of a model the whole budget holds, as far as is known."""
        return self.budget_bytes // self._expected(name)

    def describe(self) -> list[Resident]:
        """All that have a place."""
        return self._residents()

    def is_used(self, name: str) -> bool:
        """Whether requests keep a model in memory, or want it there."""
        return self._num_uses.get(name, 0) > 0

    async def unload_idle(self, name: str, reason: str) -> None:
        """Stop a model's workers where it is idle; not where others keep the turn for long.

        Who waits for memory may wait for the very model for which this one is to leave.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TURN_TIMEOUT_S):
                await self._turn.acquire()
            try:
                async with self._leaving:
                    await self._unload_idle([name], reason)
            finally:
                self._turn.release()

    async def unload(self, name: str, reason: str) -> None:
        """Stop a model's workers and free its memory, whether it is busy or not.

        It waits for no turn: whoever has it may wait for memory, and this model for its own.
        """
        async with self._leaving:
            await self._unload(name, reason)

    async def keep_bounds(self) -> None:
        """Let idle models leave when their time is over or all have outgrown the budget.

        A fault is logged, and the next look is taken all the same.
        """
        while True:
            try:
                await self._wait_for_look()
                await self._look()
            except Exception as error:  # boundary: one bad look at the memory never ends the server
                logger.exception("the models in memory could not be looked at")
                self._observer.observe(
                    ErrorOccurred(component="residents", error_type=type(error).__name__)
                )
                # An idle model whose time is over asks for the next look at once.
                await asyncio.sleep(_MEASURE_EVERY_S)

    async def _wait_for_look(self) -> None:
        now_s = self._clock()
        waits = [_MEASURE_EVERY_S, *(wait_s for _, wait_s in self._idle(now_s))]
        await self._wait_for_change(now_s + max(0.0, min(waits)))

    async def _look(self) -> None:
        async with self._turn, self._leaving:
            expired = [name for name, wait_s in self._idle(self._clock()) if wait_s <= 0]
            await self._unload_idle(expired, "it was idle for idle_unload_s")
            await self._measure()
            excess = find_excess(
                self._residents(), budget_bytes=self.budget_bytes, now_s=self._clock()
            )
            if excess is not None:
                await self._unload_idle([excess], "the models have outgrown system.model_memory_mb")

    def _idle(self, now_s: float) -> list[tuple[str, float]]:
        """Return seconds until each idle model's time is over."""
        found = []
        for name, model in self._models.items():
            limit_s = self._idle_unload_s(name)
            if limit_s is not None and not self._is_busy(name):
                found.append((name, model.last_used_s + limit_s - now_s))
        return found

    def _is_busy(self, name: str) -> bool:
        return self.is_used(name) or not self._models[name].replicas.is_settled

    def _residents(self, but: str | None = None) -> list[Resident]:
        return [
            Resident(
                name=name,
                num_bytes=model.num_bytes,
                last_used_s=model.last_used_s,
                is_busy=self._is_busy(name),
                may_leave_at_s=may_leave_at_s(model.supervisor.ready_at_s, model.supervisor.load_s),
            )
            for name, model in self._models.items()
            # One that still waits for its own place takes none.
            if name != but and model.num_bytes
        ]

    def _expected(self, name: str) -> int:
        # Nothing takes no memory at all, and 0 stands for a model without a place.
        return max(1, self._measured_bytes.get(name) or self._expect_bytes(name))

    async def _measure(self) -> None:
        for name, model in list(self._models.items()):
            workers = model.replicas.workers
            if not workers and model.supervisor.phase is ModelPhase.FAILED:
                model.num_bytes = 1
            elif workers:
                found = [await asyncio.to_thread(measure_bytes, one.pid) for one in workers]
                if any(found):
                    each = self._measured_bytes[name] = sum(found) // sum(map(bool, found))
                    # One that is loading is going to take as much.
                    model.num_bytes = each * len(model.replicas.replicas)

    async def _unload_idle(self, names: Iterable[str], reason: str) -> None:
        for name in names:
            # A request may have come while another model was leaving.
            if name in self._models and not self._is_busy(name):
                await self._unload(name, reason)

    async def _unload(self, name: str, reason: str) -> None:
        model = self._models.pop(name, None)
        if model is None or model.task is None:
            return
        engine = model.supervisor.engine
        model.task.cancel()
        await asyncio.gather(model.task, return_exceptions=True)
        for replica in model.replicas.replicas:
            # One that waited for its place never ran, and so has told nobody.
            replica.supervisor.tell_stopped()
        logger.info("%s is unloaded: %s", name, reason)
        self._observer.observe(
            ModelUnloaded(model=model.supervisor.model, engine=engine, reason=reason)
        )
        self._tell()

    async def _wait_for_change(self, until_s: float | None) -> None:
        changed = self._changed
        try:
            async with asyncio.timeout(None if until_s is None else until_s - self._clock()):
                await changed.wait()
        except TimeoutError:
            return

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
