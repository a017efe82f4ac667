"""How many replicas a model has, and which cores are each one's: pure decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CORES_A_REPLICA = 16
"""A pool of threads gains little from more cores than these; memory and waiting for one another
bound it."""


@dataclass(frozen=True, slots=True)
class Share:
    """The cores that a replica computes on; empty for all that the server may use.

    Which GPUs it has is decided whenever its worker is started (``optimization/placing``).
    """

    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaRange:
    """Fewest and most replicas, between which the load decides; both are allowed."""

    least: int
    most: int

    def clamp(self, count: int) -> int:
        """Return the allowed number that is nearest."""
        return max(self.least, min(self.most, count))

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to share.

    Attributes:
        cores: numbers of those that the server may run on.
        num_gpus: over which replicas may be spread.
    """

    cores: tuple[int, ...]
    num_gpus: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A replica as it is.

    Attributes:
        is_serving: it takes requests.
    """

    number: int
    share: Share
    is_serving: bool


@dataclass(frozen=True, slots=True)
class Start:
    """Start another replica on this."""

    share: Share


@dataclass(frozen=True, slots=True)
class Drain:
    """Give this replica nothing more, and stop it when it has ended what it has."""

    number: int


def find_count(machine: Machine, *, num_gpus_each: int, num_fitting: int) -> int:
    """Return how many replicas are worth it: what ``replicas: auto`` means.

    One for each GPU, or group of GPUs, that a replica takes; without any, one for every
    :data:`CORES_A_REPLICA` cores: below, all cores of the machine in one pool answer faster than
    halves of them do, and KV memory that is in one piece holds more. Never more than fit.

    Args:
        machine: what there is.
        num_gpus_each: that a replica computes on.
        num_fitting: for how many there is memory.
    """
    if machine.num_gpus:
        num_able = machine.num_gpus // num_gpus_each
    else:
        num_able = len(machine.cores) // CORES_A_REPLICA
    return max(1, min(num_able, num_fitting))


def share_out(count: int, machine: Machine) -> list[Share]:
    """Return the share of each of so many replicas, in their order.

    One alone has everything. Several have cores of their own while there are enough, neighbours
    as they are likely to share memory; else some have the same and take turns.
    """
    if count == 1:
        return [Share()]
    groups = _split(machine.cores, min(count, len(machine.cores)))
    return [Share(groups[one % len(groups)]) for one in range(count)]


def share_range(count: int, most: int, machine: Machine) -> list[Share]:
    """Return the share of each of so many replicas, of which there may be up to ``most``.

    With GPUs, or where cores suffice for all, each has from the beginning what it has when all are
    there, so that none is started anew when others come and go. Else those that are there share
    the cores: one alone would leave most of a small machine idle.
    """
    is_enough = len(machine.cores) >= most * CORES_A_REPLICA
    num_shares = most if machine.num_gpus or is_enough else count
    return share_out(num_shares, machine)[:count]


def next_move(
    members: Sequence[Member], wanted: Sequence[Share], *, has_room: bool
) -> Start | Drain | None:
    """Decide what brings a model's replicas nearer to what is wanted; None where nothing does.

    What is missing is started before what is not wanted any more is stopped, so that requests are
    taken all the time; the other way round only where memory is short.

    Args:
        members: those that are not drained already.
        wanted: the shares that there should be.
        has_room: there is memory for one more.
    """
    missing = Counter(wanted)
    surplus = []
    # Of those on equal shares, who serves stays.
    for member in sorted(members, key=lambda one: not one.is_serving):
        if missing[member.share] > 0:
            missing[member.share] -= 1
        else:
            surplus.append(member)
    lacking = list(missing.elements())
    if lacking and has_room:
        return Start(lacking[0])
    for member in reversed(surplus):
        others = [one for one in members if one is not member]
        # Of those that serve, and of all, the last stays.
        is_last = member.is_serving and not any(one.is_serving for one in others)
        if others and not is_last:
            return Drain(member.number)
    return None


def _split(cores: tuple[int, ...], num_parts: int) -> list[tuple[int, ...]]:
    """Return the cores in parts whose sizes differ by one at most."""
    return [
        cores[len(cores) * part // num_parts : len(cores) * (part + 1) // num_parts]
        for part in range(num_parts)
    ]
