"""Makes the servers elsewhere whose models are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.models.source import RemoteSource, parse_source

if TYPE_CHECKING:
    from mm_orch.config import Config
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.remote.fleet import RemoteFleet


def make_remotes(config: Config, observer: Observer, clock: Clock) -> dict[str, RemoteFleet]:
    """Return them by the names of their models."""
    sources = {name: parse_source(model.source) for name, model in config.models.items()}
    remote = {name: one for name, one in sources.items() if isinstance(one, RemoteSource)}
    if not remote:
        return {}
    # Whoever asks no server elsewhere does not wait for its client to be imported.
    from mm_orch.remote.fleet_assembly import make_fleets

    return make_fleets(config, remote, observer, clock)
