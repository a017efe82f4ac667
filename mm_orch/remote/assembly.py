"""Makes the servers elsewhere whose models are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.models.source import RemoteSource, parse_source

if TYPE_CHECKING:
    from mm_orch.config import Config
    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Observer
    from mm_orch.remote.server import RemoteServer


def make_remotes(config: Config, observer: Observer, clock: Clock) -> dict[str, RemoteServer]:
    """Return them by the names of their models."""
    sources = {name: parse_source(model.source) for name, model in config.models.items()}
    urls = {name: one.url for name, one in sources.items() if isinstance(one, RemoteSource)}
    if not urls:
        return {}
    # Whoever asks no server elsewhere does not wait for its client to be imported.
    from mm_orch.remote.server import RemoteServer

    keys = {name: model.api_key for name, model in config.models.items()}
    return {
        name: RemoteServer(
            name,
            url,
            api_key=key.get_secret_value() if (key := keys[name]) else "",
            stall_s=config.orchestration.watchdog_timeout_s,
            observer=observer,
            clock=clock,
        )
        for name, url in urls.items()
    }
