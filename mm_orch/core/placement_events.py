"""The facts of which worker has a request; see ``core.events``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailedOver:
    """A request whose engine was lost goes on with another worker.

    Attributes:
        num_delivered_tokens: what its client had got, over all choices.
    """

    request_id: str
    model: str
    from_engine: str
    to_engine: str
    num_delivered_tokens: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRedirected:
    """A request asks for what the model's engine cannot do, so another one beside it answers."""

    request_id: str
    model: str
    from_engine: str
    to_engine: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlaced:
    """A request goes to one of its model's replicas.

    Attributes:
        rule: what decided: only, session, prefix, load, turn or chance.
        num_queued_tokens: that the replica has to compute before those of the request.
    """

    model: str
    replica: int
    rule: str
    num_queued_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLeft:
    """A replica is no more: it was drained, or its model has left the memory."""

    model: str
    replica: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlaced:
    """A worker that is to be started has got its place on a machine with GPUs.

    Attributes:
        gpu_ids: those that it computes on; none where that is the CPU.
        lesser: why it is not the place that the model would have liked; empty where it is.
    """

    model: str
    engine: str
    replica: int
    gpu_ids: tuple[str, ...]
    lesser: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMoved:
    """A worker was ended because one of its GPUs has failed; it is placed elsewhere."""

    model: str
    replica: int
    gpu_id: str
    reason: str


PlacementEvent = (
    RequestFailedOver | RequestRedirected | RequestPlaced | ReplicaLeft | WorkerPlaced | WorkerMoved
)
