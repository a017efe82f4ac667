"""Which GPUs run which model: a pure rule over what each model needs and what there is.

    stands, on GPUs that are well   it stays: busy, whatever happens; idle, while it fits
    has lost a GPU, or is new       the first of its ways that fits: on as many GPUs as it would
                                    like, on fewer, with the next engine, on the CPU
    is busy and finds no room       idle models leave, the least recently used first

Nothing moves for a better place: loading again costs more than it gives. A model that runs on a
lesser way gets its own back when it is next loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mm_orch.core.events import GpuReading

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU of the machine.

    Attributes:
        total_bytes: of its memory; only GPUs that have the same share a model.
        available_bytes: what our models may take of it, those that stand there included.
    """

    gpu_id: str
    total_bytes: int
    available_bytes: int
    is_healthy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What models may be placed on; ``host_bytes`` is for those that run on the CPU."""

    gpus: tuple[Gpu, ...]
    host_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run a model.

    Attributes:
        num_gpus: that share it (tensor parallel); 0 for the CPU.
        weights_bytes: of the whole model, as ``kv_bytes``; both are split evenly.
        workspace_bytes: that each GPU needs beside its share.
    """

    engine: str
    num_gpus: int
    weights_bytes: int
    kv_bytes: int
    workspace_bytes: int = 0

    @property
    def share_bytes(self) -> int:
        """What it takes of each GPU, or of the host's memory."""
        split = max(1, self.num_gpus)
        return -(-(self.weights_bytes + self.kv_bytes) // split) + self.workspace_bytes

    def __str__(self) -> str:
        if self.num_gpus == 0:
            return f"{self.engine} on the CPU"
        return f"{self.engine} on {self.num_gpus} GPU{'s' * (self.num_gpus > 1)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A model that is to run.

    Attributes:
        ways: how it may run, the best first.
        is_busy: it has requests: others make room for it, and it for nobody.
        last_used_s: a reading of the monotonic clock.
    """

    model: str
    ways: tuple[Way, ...]
    is_busy: bool = False
    last_used_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model runs; no GPUs is the CPU."""

    way: Way
    gpu_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is to be done.

    Attributes:
        place_by_model: where each model is to run.
        leaving: models that stood and must leave their place, those that get another one too.
        lesser: why a model does not run in its first way, for health and alerts.
        unplaced: why a model runs nowhere, for the same.
    """

    place_by_model: Mapping[str, Place]
    leaving: tuple[str, ...]
    lesser: Mapping[str, str]
    unplaced: Mapping[str, str]


def list_ways(sizes: Iterable[Way], *, allowed_gpus: Collection[int]) -> tuple[Way, ...]:
    """Return the order in which a model's ways are tried.

    Args:
        sizes: for each engine, best first, its way with the most GPUs that it would like.
        allowed_gpus: over how many GPUs the model can be split (its heads must divide evenly).

    Returns:
        for each engine its own way and those with fewer GPUs; the CPU's ways last.
    """
    wished = list(sizes)
    on_gpus = [
        replace(way, num_gpus=num_gpus)
        for way in wished
        for num_gpus in sorted(allowed_gpus, reverse=True)
        if 1 <= num_gpus <= way.num_gpus
    ]
    return (*on_gpus, *(way for way in wished if way.num_gpus == 0))


def take_stock(
    readings: Iterable[GpuReading],
    standing: Iterable[Place],
    *,
    host_bytes: int,
    reserve_bytes: int = 0,
) -> Inventory:
    """Return the inventory that readings of GPUs mean.

    Args:
        readings: what is used counts for others where it is more than our models' shares.
        standing: where our models run.
        host_bytes: what models on the CPU may take.
        reserve_bytes: of each GPU that nobody is given.
    """
    ours: dict[str, int] = {}
    for place in standing:
        for gpu_id in place.gpu_ids:
            ours[gpu_id] = ours.get(gpu_id, 0) + place.way.share_bytes
    gpus = []
    for reading in readings:
        of_others = max(0, reading.used_bytes - ours.get(reading.gpu_id, 0))
        gpus.append(
            Gpu(
                gpu_id=reading.gpu_id,
                total_bytes=reading.total_bytes,
                available_bytes=max(0, reading.total_bytes - of_others - reserve_bytes),
                is_healthy=reading.is_healthy,
            )
        )
    return Inventory(gpus=tuple(gpus), host_bytes=host_bytes)


def place(inventory: Inventory, needs: Sequence[Need], standing: Mapping[str, Place]) -> Placement:
    """Say where each model is to run.

    The same input gives the same answer, in whatever order the needs come; and what was answered,
    as ``standing``, is answered again.

    Args:
        inventory: what there is now.
        needs: all models that run or are to run; one that stands and is not among them leaves.
        standing: where models run now.
    """
    board = _Board(inventory)
    ranked = sorted(needs, key=lambda need: (not need.is_busy, -need.last_used_s, need.model))
    for need in ranked:
        old = standing.get(need.model)
        # INVARIANT: a busy model on GPUs that are well is never moved.
        if old is not None and board.is_whole(old) and (need.is_busy or board.fits(old)):
            board.put(need, old)
    for need in ranked:
        if need.model not in board.places:
            _find_place(board, need)
    for need in ranked:
        # Who has made room for another may find a lesser place.
        if need.model not in board.places:
            _find_place(board, need)
    return Placement(
        place_by_model=dict(sorted(board.places.items())),
        leaving=tuple(
            sorted(model for model, old in standing.items() if board.places.get(model) != old)
        ),
        lesser={
            need.model: f"runs with {found.way}: {_tell_why(board, need)}"
            for need in ranked
            if (found := board.places.get(need.model)) is not None and found.way != need.ways[0]
        },
        unplaced={
            need.model: f"runs nowhere: {_tell_why(board, need)}"
            for need in ranked
            if need.model not in board.places
        },
    )


@dataclass(slots=True)
class _Board:
    """The places given so far."""

    inventory: Inventory
    places: dict[str, Place] = field(default_factory=dict)
    needs: dict[str, Need] = field(default_factory=dict)

    def put(self, need: Need, where: Place) -> None:
        self.places[need.model], self.needs[need.model] = where, need

    def is_whole(self, where: Place) -> bool:
        well = {gpu.gpu_id for gpu in self.inventory.gpus if gpu.is_healthy}
        return well.issuperset(where.gpu_ids)

    def fits(self, where: Place) -> bool:
        if not where.gpu_ids:
            return where.way.share_bytes <= self._free_host(())
        free = self._free_by_gpu(())
        return all(where.way.share_bytes <= free[gpu_id] for gpu_id in where.gpu_ids)

    def find(self, way: Way, without: Collection[str] = ()) -> Place | None:
        """Return the tightest place for a way, as if some models were not there."""
        if way.num_gpus == 0:
            return Place(way, ()) if way.share_bytes <= self._free_host(without) else None
        free = self._free_by_gpu(without)
        groups = []
        for total_bytes in sorted({gpu.total_bytes for gpu in self.inventory.gpus}):
            able = sorted(
                (free[gpu.gpu_id], gpu.gpu_id)
                for gpu in self.inventory.gpus
                if gpu.total_bytes == total_bytes
                and gpu.is_healthy
                and free[gpu.gpu_id] >= way.share_bytes
            )
            if len(able) >= way.num_gpus:
                taken = able[: way.num_gpus]
                groups.append((sum(one for one, _ in taken), sorted(name for _, name in taken)))
        return Place(way, tuple(min(groups)[1])) if groups else None

    def list_idle(self) -> list[str]:
        """Return the models that may leave, the one to leave first in front."""
        idle = [need for need in self.needs.values() if not need.is_busy]
        return [need.model for need in sorted(idle, key=lambda one: (one.last_used_s, one.model))]

    def remove(self, models: Iterable[str]) -> None:
        for model in models:
            del self.places[model], self.needs[model]

    def _free_by_gpu(self, without: Collection[str]) -> dict[str, int]:
        free = {gpu.gpu_id: gpu.available_bytes for gpu in self.inventory.gpus}
        for model, where in self.places.items():
            for gpu_id in where.gpu_ids if model not in without else ():
                free[gpu_id] -= where.way.share_bytes
        return free

    def _free_host(self, without: Collection[str]) -> int:
        return self.inventory.host_bytes - sum(
            where.way.share_bytes
            for model, where in self.places.items()
            if not where.gpu_ids and model not in without
        )


def _find_place(board: _Board, need: Need) -> None:
    """Give a model the first of its ways that there is room for, or none."""
    for way in need.ways:
        leaving = _find_leaving(board, way) if need.is_busy else ()
        if leaving is None:
            continue
        found = board.find(way, leaving)
        if found is not None:
            board.remove(leaving)
            board.put(need, found)
            return


def _find_leaving(board: _Board, way: Way) -> tuple[str, ...] | None:
    """Return the idle models that must leave for a way; None where even that is not enough."""
    idle = board.list_idle()
    num_leaving = next(
        (num for num in range(len(idle) + 1) if board.find(way, idle[:num]) is not None), None
    )
    if num_leaving is None:
        return None
    leaving = idle[:num_leaving]
    # One that takes other GPUs' memory is spared, the most recently used first.
    for model in reversed(idle[:num_leaving]):
        rest = [one for one in leaving if one != model]
        if board.find(way, rest) is not None:
            leaving = rest
    return tuple(leaving)


def _tell_why(board: _Board, need: Need) -> str:
    first = need.ways[0]
    failed = [gpu.gpu_id for gpu in board.inventory.gpus if not gpu.is_healthy]
    room = f"{first} would need {first.share_bytes / _GIB:.1f} GiB"
    room += " of each" if first.num_gpus > 1 else ""
    return f"{room}; failed GPUs: {', '.join(failed)}" if failed else room
