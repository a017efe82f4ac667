"""One server of a fleet, and what this process has given it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.workers.phase import ModelPhase
from mm_orch.workers.queued_tokens import QueuedTokens

if TYPE_CHECKING:
    import asyncio

    from mm_orch.core.fleet_events import EndpointState
    from mm_orch.remote.server import RemoteServer


@dataclass(eq=False, slots=True)
class Endpoint:
    """A server of a fleet, and what this process has given it.

    Attributes:
        number: its own among all that the fleet has ever had.
        task: asks it how it is.
        queued: what it has still to compute.
        prompts: numbers of those that it has now, of ``Choice.number``.
        tells_cached: it has said of a prompt that a part of it needed no computing.
        last_state: as it was told of last.
    """

    server: RemoteServer
    number: int
    task: asyncio.Task[None] | None = None
    num_requests: int = 0
    queued: QueuedTokens = field(default_factory=QueuedTokens)
    prompts: set[int] = field(default_factory=set)
    tells_cached: bool = False
    is_leaving: bool = False
    last_state: EndpointState = "joining"

    @property
    def state(self) -> EndpointState:
        """How it is."""
        if self.is_leaving:
            return "leaving"
        match self.server.phase:
            case ModelPhase.LOADING:
                return "joining"
            case ModelPhase.READY:
                return "ready"
            case _:
                return "failed"
