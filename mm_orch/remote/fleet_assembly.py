"""Makes the fleets of a configuration: for each model that other servers run, one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.endpoints import Registry, read_endpoints
from mm_orch.remote.discovery import Address, Discovery
from mm_orch.remote.fleet import RemoteFleet
from mm_orch.remote.placing import Placing
from mm_orch.remote.server import RemoteServer
from mm_orch.remote.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.config import Config
    from mm_orch.core.clock import Clock
    from mm_orch.core.endpoints import Endpoints
    from mm_orch.core.events import Observer
    from mm_orch.models.source import RemoteSource
    from mm_orch.remote.discovery import Finder

_SEED_BITS = 32


def make_fleets(
    config: Config, sources: Mapping[str, RemoteSource], observer: Observer, clock: Clock
) -> dict[str, RemoteFleet]:
    """Return the fleet of each of these models, by its name."""
    return {
        name: _make_fleet(config, name, source, observer, clock) for name, source in sources.items()
    }


def _make_fleet(
    config: Config, name: str, source: RemoteSource, observer: Observer, clock: Clock
) -> RemoteFleet:
    model = config.models[name]

    def make_server(address: Address, on_change: Callable[[], None]) -> RemoteServer:
        return RemoteServer(
            name,
            address,
            name_there=source.model or None,
            api_key=model.api_key.get_secret_value() if model.api_key else "",
            stall_s=config.orchestration.watchdog_timeout_s,
            on_change=on_change,
            clock=clock,
        )

    def make_discovery(
        entry: Endpoints, on_news: Callable[[frozenset[Address]], None]
    ) -> Discovery:
        finder = _make_finder(config, entry)
        return Discovery(finder, interval_s=config.discovery.interval_s, on_news=on_news)

    fleet = RemoteFleet(
        name,
        Sources([Address(source.url)] if source.url else [], make_discovery),
        make_server=make_server,
        placing=Placing(
            policy=config.optimization.balancing,
            max_tokens=model.endpoint_cache_tokens,
            # Which server takes a request is no secret.
            seed=random.getrandbits(_SEED_BITS),
        ),
        observer=observer,
        clock=clock,
    )
    fleet.name([read_endpoints(text) for text in model.endpoints])
    return fleet


def _make_finder(config: Config, endpoints: Endpoints) -> Finder:
    settings = config.discovery
    if endpoints.registry is Registry.KUBERNETES:
        # Neither client is imported by who has no use for it.
        from mm_orch.remote.kubernetes import KubernetesFinder

        return KubernetesFinder(
            endpoints,
            api_url=settings.kubernetes_url,
            credentials=Path(settings.kubernetes_credentials),
        )
    from mm_orch.remote.dns import DnsFinder

    return DnsFinder(endpoints, server=settings.dns_server, port=settings.dns_port)
