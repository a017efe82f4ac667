"""The facts that a fleet of servers states; see ``core.events``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EndpointState = Literal["joining", "ready", "failed", "leaving"]
"""How a server of a fleet is.

joining: not yet asked; ready: takes requests; failed: asked again until it is well; leaving: is no
longer there for new requests, and is left once those under way have ended.
"""

EndpointChange = Literal["found", "joined", "failed", "leaving", "left"]
"""found: is going to be asked how it is; joined: takes requests, for the first time or again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanged:
    """One of the servers that run a model has come, gone, or is otherwise than before.

    Attributes:
        address: of the server; for people, and no label of a metric.
        num_by_state: of all the model's servers, after it.
    """

    model: str
    address: str
    change: EndpointChange
    num_by_state: dict[EndpointState, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChosen:
    """A request goes to one of the servers that run its model.

    Attributes:
        address: of the server; for people, and no label of a metric.
        rule: what decided: only, session, prefix or load.
        num_queued_tokens: that the server has to compute, of this process's other requests.
    """

    model: str
    address: str
    rule: str
    num_queued_tokens: int


FleetEvent = EndpointChanged | EndpointChosen
