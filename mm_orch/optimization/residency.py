"""Which models leave so that another may come: a pure decision over measured memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIN_STAY_S = 5.0
_STAY_FACTOR = 5.0
_MB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model in memory.

    Attributes:
        num_bytes: measured; while it loads, what is expected of it.
        last_used_s: when its last request ended or began.
        is_busy: requests use it, or it is loading.
        may_leave_at_s: before, it stays even when idle: loading it has cost too much to be undone.
    """

    name: str
    num_bytes: int
    last_used_s: float
    is_busy: bool
    may_leave_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fits:
    """The model may be loaded."""


@dataclass(frozen=True, slots=True)
class Evict:
    """It may be loaded when these have left, in this order."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """There is no room for it now.

    Attributes:
        reason: for people.
        until_s: when to look again if nothing changes before; None where only a change helps.
    """

    reason: str
    until_s: float | None


Room = Fits | Evict | Wait


def may_leave_at_s(ready_at_s: float, load_s: float) -> float:
    """Return when a model may be evicted again: five times what loading it took, or five seconds.

    Two models that take turns in the same memory so answer for most of the time, and load for a
    sixth of it at most.
    """
    return ready_at_s + max(_MIN_STAY_S, _STAY_FACTOR * load_s)


def find_room(
    wanted_bytes: int,
    residents: Sequence[Resident],
    *,
    budget_bytes: int,
    max_models: int,
    now_s: float,
) -> Room:
    """Decide how a model of this size gets its place.

    Idle models leave, the least recently used first and no more than needed; a busy one never does.
    A model that is larger than the whole budget may be loaded alone: what it really takes is
    known only then.
    """
    leaving: list[str] = []
    staying = list(residents)
    idle = sorted((one for one in residents if not one.is_busy), key=lambda one: one.last_used_s)
    movable = [one for one in idle if one.may_leave_at_s <= now_s]
    while not _fits(wanted_bytes, staying, budget_bytes, max_models):
        if not movable:
            return _wait(wanted_bytes, staying, idle, budget_bytes, max_models)
        next_one = movable.pop(0)
        staying.remove(next_one)
        leaving.append(next_one.name)
    return Evict(tuple(leaving)) if leaving else Fits()


def find_excess(residents: Sequence[Resident], *, budget_bytes: int, now_s: float) -> str | None:
    """Return the model that should leave because all together have outgrown the budget."""
    if len(residents) <= 1 or sum(one.num_bytes for one in residents) <= budget_bytes:
        return None
    movable = [one for one in residents if not one.is_busy and one.may_leave_at_s <= now_s]
    return min(movable, key=lambda one: one.last_used_s).name if movable else None


def _fits(
    wanted_bytes: int, residents: Sequence[Resident], budget_bytes: int, max_models: int
) -> bool:
    if not residents:
        return True
    used = sum(one.num_bytes for one in residents)
    return len(residents) < max_models and used + wanted_bytes <= budget_bytes


def _wait(
    wanted_bytes: int,
    staying: Sequence[Resident],
    idle: Sequence[Resident],
    budget_bytes: int,
    max_models: int,
) -> Wait:
    busy = ", ".join(one.name for one in staying if one.is_busy)
    fresh = [one for one in idle if one in staying]
    names = ", ".join(one.name for one in fresh)
    told = [f"{busy} busy" if busy else "", f"{names} just loaded" if names else ""]
    who = "; ".join(part for part in told if part)
    if len(staying) >= max_models:
        limit = f"system.max_cached_models is {max_models}"
    else:
        limit = (
            f"it takes {-(-wanted_bytes // _MB)} MiB and system.model_memory_mb is"
            f" {budget_bytes // _MB}"
        )
    times = [one.may_leave_at_s for one in fresh]
    return Wait(f"waiting for a place ({limit}; {who})", min(times) if times else None)
