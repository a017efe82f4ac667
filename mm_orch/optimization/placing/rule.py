"""Which GPUs run what: a pure rule over what each worker needs and what there is.

    stands, on GPUs that are well   it stays: busy, whatever happens; idle, while it fits
    has lost a GPU, or is new       the first of its ways that fits: on as many GPUs as it would
                                    like, on fewer, with the next engine, on the CPU
    is busy and finds no room       idle ones leave, the least recently used first

Nothing moves for a better place: loading again costs more than it gives. What runs on a lesser way
gets its own back when it is next loaded. On the CPU there is always room here: whether the host's
memory is enough is asked before (``optimization/residency``).
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
        available_bytes: what our workers may take of it, those that stand there included.
    """

    gpu_id: str
    total_bytes: int
    available_bytes: int
    is_healthy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run a model.

    Attributes:
        num_gpus: that share it; 0 for the CPU.
        num_stages: parts of its depth, of which each GPU has one (pipeline parallel); the GPUs of
            a stage share each layer (tensor parallel).
        weights_bytes: of the whole model, as ``kv_bytes``; both are split evenly.
        workspace_bytes: that each GPU needs beside its share.
    """

    engine: str
    num_gpus: int
    num_stages: int = 1
    weights_bytes: int = 0
    kv_bytes: int = 0
    workspace_bytes: int = 0

    @property
    def share_bytes(self) -> int:
        """What it takes of each GPU; nothing on the CPU."""
        if self.num_gpus == 0:
            return 0
        return -(-(self.weights_bytes + self.kv_bytes) // self.num_gpus) + self.workspace_bytes

    def __str__(self) -> str:
        if self.num_gpus == 0:
            return f"{self.engine} on the CPU"
        return f"{self.engine} on {self.num_gpus} GPU{'s' * (self.num_gpus > 1)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What is to run.

    Attributes:
        name: tells it from the others.
        ways: how it may run, the best first.
        is_busy: it has requests: others make room for it, and it for nobody.
        last_used_s: a reading of the monotonic clock.
        avoids: GPUs that it takes only where no others have room, as those of a replica.
    """

    name: str
    ways: tuple[Way, ...]
    is_busy: bool = False
    last_used_s: float = 0.0
    avoids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model runs; no GPUs is the CPU."""

    way: Way
    gpu_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What is to be done, all by name.

    Attributes:
        places: where each is to run; what is not among them runs nowhere.
        leaving: those that stood and must leave their place, what gets another one too.
    """

    places: Mapping[str, Place]
    leaving: tuple[str, ...]


def list_ways(wish: Way, *, num_heads: int | None = None) -> tuple[Way, ...]:
    """Return a way on GPUs and those with fewer of them, the most first.

    Stages are given up before layers are shared by fewer.

    Args:
        wish: with the most GPUs that it would like.
        num_heads: of attention, where that is known: GPUs that share a layer divide them evenly.
    """
    num_sharing = wish.num_gpus // wish.num_stages
    stages = [
        (num_sharing, number)
        for number in range(wish.num_stages - 1, 0, -1)
        if wish.num_stages % number == 0
    ]
    sharing = [
        (number, 1)
        for number in range(num_sharing - 1, 0, -1)
        if (num_heads or num_sharing) % number == 0
    ]
    fewer = tuple(
        replace(wish, num_gpus=number * num_stages, num_stages=num_stages)
        for number, num_stages in (*stages, *sharing)
    )
    return (wish, *fewer)


def take_stock(
    readings: Iterable[GpuReading], ours: Iterable[Place], *, reserve_bytes: int = 0
) -> tuple[Gpu, ...]:
    """Return the GPUs that readings mean.

    Args:
        readings: what is used counts for others where it is more than our shares.
        ours: where our workers run, those included that have just ended.
        reserve_bytes: of each GPU that nobody is given.
    """
    ours_by_gpu: dict[str, int] = {}
    for one in ours:
        for gpu_id in one.gpu_ids:
            ours_by_gpu[gpu_id] = ours_by_gpu.get(gpu_id, 0) + one.way.share_bytes
    gpus = []
    for reading in readings:
        of_others = max(0, reading.used_bytes - ours_by_gpu.get(reading.gpu_id, 0))
        gpus.append(
            Gpu(
                gpu_id=reading.gpu_id,
                total_bytes=reading.total_bytes,
                available_bytes=max(0, reading.total_bytes - of_others - reserve_bytes),
                is_healthy=reading.is_healthy,
            )
        )
    return tuple(gpus)


def place(gpus: Sequence[Gpu], needs: Sequence[Need], standing: Mapping[str, Place]) -> Placement:
    """Say where each is to run.

    The same input gives the same answer, in whatever order the needs come; and what was answered,
    as ``standing``, is answered again.

    Args:
        gpus: what there is now.
        needs: all that runs or is to run; what stands and is not among them leaves.
        standing: where it runs now, by name.
    """
    board = _Board(gpus)
    ranked = sorted(needs, key=lambda need: (not need.is_busy, -need.last_used_s, need.name))
    for need in ranked:
        old = standing.get(need.name)
        # INVARIANT: what is busy on GPUs that are well is never moved.
        if old is not None and board.is_whole(old) and (need.is_busy or board.fits(old)):
            board.put(need, old)
    for need in ranked:
        if need.name not in board.places:
            _find_place(board, need)
    for need in ranked:
        # Who has made room for another may find a lesser place.
        if need.name not in board.places:
            _find_place(board, need)
    return Placement(
        places=dict(sorted(board.places.items())),
        leaving=tuple(
            sorted(name for name, old in standing.items() if board.places.get(name) != old)
        ),
    )


def describe_lack(way: Way, gpus: Iterable[Gpu]) -> str:
    """Say why a way could not be taken, for health and alerts."""
    failed = [gpu.gpu_id for gpu in gpus if not gpu.is_healthy]
    each = " of each" if way.num_gpus > 1 else ""
    room = f"{way} would need {way.share_bytes / _GIB:.1f} GiB{each}"
    return f"{room}; failed GPUs: {', '.join(failed)}" if failed else room


@dataclass(slots=True)
class _Board:
    """The places given so far."""

    gpus: Sequence[Gpu]
    places: dict[str, Place] = field(default_factory=dict)
    needs: dict[str, Need] = field(default_factory=dict)

    def put(self, need: Need, where: Place) -> None:
        self.places[need.name], self.needs[need.name] = where, need

    def is_whole(self, where: Place) -> bool:
        well = {gpu.gpu_id for gpu in self.gpus if gpu.is_healthy}
        return well.issuperset(where.gpu_ids)

    def fits(self, where: Place) -> bool:
        free = self._free_by_gpu(())
        return all(where.way.share_bytes <= free[gpu_id] for gpu_id in where.gpu_ids)

    def find(self, need: Need, way: Way, without: Collection[str] = ()) -> Place | None:
        """Return the tightest place for a way, as if some others were not there."""
        if way.num_gpus == 0:
            return Place(way, ())
        free = self._free_by_gpu(without)
        groups = []
        for total_bytes in sorted({gpu.total_bytes for gpu in self.gpus}):
            able = sorted(
                (gpu.gpu_id in need.avoids, free[gpu.gpu_id], gpu.gpu_id)
                for gpu in self.gpus
                if gpu.total_bytes == total_bytes
                and gpu.is_healthy
                and free[gpu.gpu_id] >= way.share_bytes
            )
            if len(able) >= way.num_gpus:
                taken = able[: way.num_gpus]
                num_avoided = sum(is_avoided for is_avoided, _, _ in taken)
                ids = sorted(name for _, _, name in taken)
                groups.append((num_avoided, sum(one for _, one, _ in taken), ids))
        return Place(way, tuple(min(groups)[2])) if groups else None

    def list_idle(self) -> list[str]:
        """Return those that may leave, the one to leave first in front."""
        idle = [need for need in self.needs.values() if not need.is_busy]
        return [need.name for need in sorted(idle, key=lambda one: (one.last_used_s, one.name))]

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            del self.places[name], self.needs[name]

    def _free_by_gpu(self, without: Collection[str]) -> dict[str, int]:
        free = {gpu.gpu_id: gpu.available_bytes for gpu in self.gpus}
        for name, where in self.places.items():
            for gpu_id in where.gpu_ids if name not in without else ():
                free[gpu_id] -= where.way.share_bytes
        return free


def _find_place(board: _Board, need: Need) -> None:
    """Give the first of the ways that there is room for, or none."""
    for way in need.ways:
        leaving = _find_leaving(board, need, way) if need.is_busy else ()
        if leaving is None:
            continue
        found = board.find(need, way, leaving)
        if found is not None:
            board.remove(leaving)
            board.put(need, found)
            return


def _find_leaving(board: _Board, need: Need, way: Way) -> tuple[str, ...] | None:
    """Return the idle ones that must leave for a way; None where even that is not enough."""
    idle = board.list_idle()
    num_leaving = next(
        (num for num in range(len(idle) + 1) if board.find(need, way, idle[:num]) is not None), None
    )
    if num_leaving is None:
        return None
    leaving = idle[:num_leaving]
    # One that takes other GPUs' memory is spared, the most recently used first.
    for name in reversed(idle[:num_leaving]):
        rest = [one for one in leaving if one != name]
        if board.find(need, way, rest) is not None:
            leaving = rest
    return tuple(leaving)
