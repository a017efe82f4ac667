"""The series of fleets: which servers run a model elsewhere, and what chose one of them."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.core.fleet_events import EndpointChange, EndpointChanged, EndpointState
from mm_orch.monitoring.replica_series import RULES

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.fleet_events import FleetEvent


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

        self._requests = Counter(
            "remote_requests_total",
            "Requests given to a server elsewhere, by what chose which.",
            ("model", "rule"),
            registry=registry,
        )

    def observe(self, model: str, event: FleetEvent) -> None:
        """Take one fact of a model by the name that labels it."""
        if isinstance(event, EndpointChanged):
            self._observe_change(model, event)
        else:
            self._requests.labels(model, event.rule).inc()

    def _observe_change(self, model: str, event: EndpointChanged) -> None:
        for state in typing.get_args(EndpointState):
            self._endpoints.labels(model, state).set(event.num_by_state.get(state, 0))
        for change in typing.get_args(EndpointChange):
            self._changes.labels(model, change).inc(change == event.change)
        for rule in RULES:
            self._requests.labels(model, rule)
