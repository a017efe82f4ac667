"""Owns which worker computes on which GPUs: gives places, measures, takes workers off failed GPUs.

a worker starts    a fresh reading; the rule; idle models leave where it says so; a claim
every few seconds  a reading: what workers take is measured; who is on a failed GPU is ended,
                   so that its supervisor starts it again, in another place
a worker ended     its claim is over; for a moment its memory is still counted as ours
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.core.errors import DeviceLostError, EngineStartError
from mm_orch.core.events import ErrorOccurred
from mm_orch.core.placement_events import WorkerMoved, WorkerPlaced
from mm_orch.gpus.visible import find_visible
from mm_orch.optimization.footprint import find_members
from mm_orch.optimization.placing.needs import Measurements
from mm_orch.optimization.placing.rule import Need, Place, Way, describe_lack, place, take_stock

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import GpuReading, Observer
    from mm_orch.gpus.watch import GpuWatch
    from mm_orch.optimization.placing.rule import Gpu, Placement
    from mm_orch.optimization.residents import Residents
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
# A driver frees what a process had a moment after its end, and a new worker takes longer than that
# to begin to load.
_LINGER_S = 10.0
# Of each GPU: what fragments of allocators and other programs may still take.
_RESERVE_BYTES = 256 << 20
_NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What asks for a place.

    Attributes:
        name: among the models in memory.
        model: its configured name.
        ways: of the engine that is to be started, the best first; the CPU where it may be.
        wish: the best way of the engine that is preferred.
        device: system.device; cuda:N is that GPU alone.
    """

    name: str
    model: str
    replica: int
    ways: tuple[Way, ...]
    wish: Way
    device: str = "auto"


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """A worker's place, from before it is launched until it has ended.

    Attributes:
        gpus: of the place, as they were when it was given.
        lesser: why it is not the place that was wished for; empty where it is.
        worker: None until it was launched.
        ended_at_s: when it was found to have ended.
    """

    wanted: Wanted
    place: Place
    gpus: tuple[GpuReading, ...]
    lesser: str = ""
    worker: Worker | None = None
    ended_at_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether its worker has ended, or was never launched."""
        return self.ended_at_s is not None


class GpuPlaces:
    """The places of all workers of this machine.

    Args:
        watch: reads the GPUs.
        residents: the models in memory, of which idle ones may have to leave.

    Attributes:
        gpus: those that this server may use, as they were read last.
    """

    def __init__(
        self,
        watch: GpuWatch,
        residents: Residents,
        *,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.gpus: tuple[GpuReading, ...] = ()
        self._watch = watch
        self._residents = residents
        self._observer = observer
        self._clock = clock
        self._claims: list[Claim] = []
        self._measurements = Measurements()
        self._failed_before: frozenset[str] = frozenset()
        # One worker at a time is given a place.
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Measure and look for failed GPUs until cancelled, where there are GPUs.

        A fault is logged, and the next look is taken all the same.
        """
        has_gpus = True
        while has_gpus:
            has_gpus = await self._look()
            await asyncio.sleep(CHECK_EVERY_S)

    async def read(self) -> tuple[GpuReading, ...]:
        """Read the GPUs; return those that this server may use."""
        self.gpus = find_visible(await self._watch.read())
        self._note_ended()
        return self.gpus

    def count_gpus(self, device: str) -> int:
        """Return over how many GPUs the replicas of a model are spread on a device."""
        # One GPU that was named is for all.
        return len(self.gpus) if device in {"auto", "cuda"} else 0

    def find_failed(self) -> dict[str, str]:
        """Return what is wrong with each GPU that must not be used, by its id."""
        return {gpu.gpu_id: gpu.fault for gpu in self.gpus if gpu.fault}

    def find_lesser(self, model: str) -> str:
        """Return why a worker of a model is not where it was wished for; empty where all are."""
        living = (one for one in self._claims if not one.is_over and one.wanted.model == model)
        return next((one.lesser for one in living if one.lesser), "")

    def correct(self, model: str, ways: Sequence[Way]) -> tuple[Way, ...]:
        """Return ways on GPUs with what was measured of them."""
        return self._measurements.correct(model, ways)

    def has_room(self, wanted: Wanted) -> bool:
        """Whether there is a place for one of the ways now, as of the last reading."""
        return _NEW in self._judge(wanted).places

    async def claim(self, wanted: Wanted) -> Claim:
        """Give a worker that is to be started its place; idle models may leave for it.

        Raises:
            EngineStartError: there is none.
        """
        async with self._turn:
            asked: set[str] = set()
            while True:
                await self.read()
                found = self._judge(wanted, staying=asked)
                leaving = self._find_leaving(found)
                if not leaving:
                    break
                for name in sorted(leaving):
                    await self._residents.unload_idle(name, f"room on a GPU for {wanted.name}")
                asked |= leaving
            where = found.places.get(_NEW)
            if where is None:
                raise self._refuse(wanted)
            return self._note(wanted, where)

    def release(self, claim: Claim) -> None:
        """Note that the worker of a claim was not launched."""
        self._claims.remove(claim)

    async def find_fault(self, worker: Worker) -> str:
        """Return which failure of a GPU a worker that has ended died of; empty where of none."""
        claim = next((one for one in self._claims if one.worker is worker), None)
        if claim is None or not claim.place.gpu_ids:
            return ""
        await self.read()
        return "" if self._watch.is_hanging else self._describe_fault(claim)

    async def _look(self) -> bool:
        """Read, leave what has failed, measure; return whether there are GPUs to look at."""
        try:
            if not await self.read() and not self._watch.is_hanging:
                return False
            self._leave_failed()
            await self._measure()
        except Exception as error:  # boundary: one bad look at the GPUs never ends the server
            logger.exception("the GPUs could not be looked at")
            self._observer.observe(
                ErrorOccurred(component="placing", error_type=type(error).__name__)
            )
        return True

    def _refuse(self, wanted: Wanted) -> EngineStartError:
        stock = self._take_stock(wanted)
        if not stock:
            return EngineStartError(
                f"system.device is {wanted.device}, but the server sees {len(self.gpus)} GPUs,"
                " numbered from 0.",
                remedy="Set system.device to auto, cuda, cpu or the number of one of them.",
            )
        return EngineStartError(
            f"{wanted.model} has no place on a GPU: {describe_lack(wanted.ways[0], stock)}.",
            remedy="Unload a model, choose a smaller one, or set system.device to auto.",
        )

    def _note(self, wanted: Wanted, where: Place) -> Claim:
        is_lesser = where.way != wanted.wish
        lack = describe_lack(wanted.wish, self._take_stock(wanted)) if is_lesser else ""
        claim = Claim(
            wanted=wanted,
            place=where,
            gpus=tuple(one for one in self.gpus if one.gpu_id in where.gpu_ids),
            lesser=f"runs with {where.way}: {lack}" if lack else "",
        )
        self._claims.append(claim)
        names = ", ".join(where.gpu_ids) or "none"
        logger.info("%s: %s, GPUs: %s", wanted.name, where.way, names)
        if claim.lesser:
            logger.warning("%s %s", wanted.name, claim.lesser)
        self._observer.observe(
            WorkerPlaced(
                model=wanted.model,
                engine=where.way.engine,
                replica=wanted.replica,
                gpu_ids=where.gpu_ids,
                lesser=claim.lesser,
            )
        )
        return claim

    def _judge(self, wanted: Wanted, staying: Collection[str] = ()) -> Placement:
        """Ask the rule; those that were asked to leave and have not are busy."""
        standing = {
            str(number): one
            for number, one in enumerate(self._claims)
            if not one.is_over and not self._describe_fault(one)
        }
        uses = {one.name: one for one in self._residents.describe()}
        now_s = self._clock()
        needs = [
            Need(
                name=_NEW,
                ways=wanted.ways,
                is_busy=self._residents.is_used(wanted.name),
                last_used_s=now_s,
                avoids=frozenset(
                    gpu_id
                    for one in standing.values()
                    if one.wanted.model == wanted.model
                    for gpu_id in one.place.gpu_ids
                ),
            )
        ]
        for key, claim in standing.items():
            use = uses.get(claim.wanted.name)
            is_idle = use is not None and not use.is_busy and use.may_leave_at_s <= now_s
            is_idle = is_idle and claim.wanted.name not in staying
            needs.append(
                Need(
                    name=key,
                    ways=(claim.place.way,),
                    is_busy=not is_idle,
                    last_used_s=use.last_used_s if use else now_s,
                )
            )
        places = {key: claim.place for key, claim in standing.items()}
        return place(self._take_stock(wanted), needs, places)

    def _find_leaving(self, found: Placement) -> set[str]:
        return {self._claims[int(key)].wanted.name for key in found.leaving}

    def _take_stock(self, wanted: Wanted) -> tuple[Gpu, ...]:
        # What stands on a failed GPU takes what it takes of others, until it has left them.
        ours = [one.place for one in self._claims if one.is_over or not self._describe_fault(one)]
        stock = take_stock(self.gpus, ours, reserve_bytes=_RESERVE_BYTES)
        _, _, number = wanted.device.partition("cuda:")
        return stock[int(number) : int(number) + 1] if number else stock

    def _note_ended(self) -> None:
        """End the claims of workers that have ended, and forget those that ended long ago."""
        now_s = self._clock()
        for claim in self._claims:
            if claim.worker is not None and claim.worker.is_dead and not claim.is_over:
                claim.ended_at_s = now_s
        self._claims = [
            one
            for one in self._claims
            if one.ended_at_s is None or now_s - one.ended_at_s < _LINGER_S
        ]

    async def _measure(self) -> None:
        """Note what each worker that has loaded its model takes of its GPUs."""
        for claim in list(self._claims):
            worker = claim.worker
            if worker is None or claim.is_over or not worker.is_ready or not claim.place.gpu_ids:
                continue
            if worker.facts.device == "cpu":
                self._measurements.note_host(worker.model, worker.engine)
                claim.place = Place(Way(engine=worker.engine, num_gpus=0), ())
                continue
            members = await asyncio.to_thread(find_members, worker.pid)
            taken = [
                sum(gpu.bytes_by_pid.get(pid, 0) for pid in members)
                for gpu in self.gpus
                if gpu.gpu_id in claim.place.gpu_ids
            ]
            if any(taken):
                self._measurements.note(worker.model, claim.place.way, max(taken))
                [way] = self._measurements.correct(worker.model, [claim.place.way])
                claim.place = replace(claim.place, way=way)

    def _leave_failed(self) -> None:
        """End the workers on GPUs that have failed in two readings in a row."""
        failed = frozenset(self.find_failed())
        certain, self._failed_before = failed & self._failed_before, failed
        if self._watch.is_hanging:
            # Their readings tell nothing of them: workers that really stand still are noticed.
            return
        for claim in self._claims:
            worker, lost = claim.worker, certain.intersection(claim.place.gpu_ids)
            if worker is None or claim.is_over or not lost:
                continue
            fault = self._describe_fault(claim)
            logger.error("%s leaves its GPUs: %s", claim.wanted.name, fault)
            for gpu_id in sorted(lost):
                self._observer.observe(
                    WorkerMoved(
                        model=claim.wanted.model,
                        replica=claim.wanted.replica,
                        gpu_id=gpu_id,
                        reason=fault,
                    )
                )
            worker.kill(f"it was ended because {fault}", DeviceLostError)
            claim.ended_at_s = self._clock()

    def _describe_fault(self, claim: Claim) -> str:
        """Say what is wrong with a claim's GPUs; empty where nothing is."""
        faults = self.find_failed()
        return "; ".join(
            f"GPU {gpu_id} {faults[gpu_id]}" for gpu_id in claim.place.gpu_ids if gpu_id in faults
        )
