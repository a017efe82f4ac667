"""The facts that the autoscaler of replicas states; see ``core.events``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasScaled:
    """A model is to have another number of replicas from now on, or would if it could.

    Attributes:
        direction: up, down, or held where more are needed and there cannot be more.
        count: how many there are to be.
    """

    model: str
    direction: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledLoadRead:
    """What a window said of a model whose replicas follow its load.

    Attributes:
        num_wanted: replicas that there should be.
        wait_s: how long its requests wait to begin.
    """

    model: str
    num_wanted: int
    wait_s: float


SCALING_DIRECTIONS = ("up", "down", "held")

ScalingEvent = ReplicasScaled | ScaledLoadRead
