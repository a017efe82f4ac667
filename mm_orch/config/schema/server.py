"""Options of the section ``monitoring.server``: where it listens, what may wait, how it ends."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import AtLeastOne, AtLeastZero, Host, ModelNames, Port, UrlPath


class ServerSettings(Section):
    """The long-running server."""

    enabled: bool = option("Run as a server; --server sets it.", default=False)
    host: Host = option("Address to listen on; 0.0.0.0 is every one.", default="127.0.0.1")
    port: Port = option("Port; 0 takes a free one and the log says which.", default=8000)
    queue_capacity: AtLeastOne = option(
        "Requests that may wait, not counting lower priorities; one more is refused at once, but"
        " for a quarter more (rounded up) that come back when Retry-After said.",
        default=100,
        live=True,
    )
    preload_models: ModelNames = option(
        "Models to load at start, the default model first; names or aliases.", default=()
    )
    graceful_shutdown_timeout: AtLeastZero = option(
        "Seconds that running requests get to finish when the server stops.", default=30, live=True
    )
    health_check_path: UrlPath = option("Path of the health report.", default="/health")
    readiness_check_path: UrlPath = option("Path of the readiness check.", default="/ready")
