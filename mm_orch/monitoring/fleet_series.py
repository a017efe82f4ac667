"""The series of fleets: how many servers elsewhere run a model, and how they come and go."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.core.fleet_events import EndpointChange, EndpointState

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.fleet_events import EndpointChanged


class FleetSeries:
    """Every series; of a model that no server elsewhere runs there are none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._endpoints = Gauge(
            "remote_endpoints",
            "Servers elsewhere that run the model, by how they are.",
            ("model", "state"),
            registry=registry,
        )
        self._changes = Counter(
            "remote_endpoint_changes_total",
            "Times that a server elsewhere was found, began to take requests, failed, or left.",
            ("model", "change"),
            registry=registry,
        )

    def observe(self, model: str, event: EndpointChanged) -> None:
        """Take one fact of a model by the name that labels it."""
        for state in typing.get_args(EndpointState):
            self._endpoints.labels(model, state).set(event.num_by_state.get(state, 0))
        for change in typing.get_args(EndpointChange):
            self._changes.labels(model, change).inc(change == event.change)
