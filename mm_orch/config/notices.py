"""Warnings: what is allowed, but probably not what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.config.layer import nearest
from mm_orch.config.schema import DEFAULT_ENGINES, LAST_RESORT_ENGINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mm_orch.config.keys import Path
    from mm_orch.config.schema import Config
    from mm_orch.config.setting import Setting

_API_KEYS = ("api", "api_keys")
_LOOPBACK_HOSTS = {"localhost", "::1"}


def find_notices(
    config: Config, file: Mapping[Path, Setting], settings: Mapping[Path, Setting]
) -> Iterator[str]:
    """Yield a sentence for everything worth a warning in a valid configuration.

    Args:
        config: all of it.
        file: what the file sets.
        settings: what counts of file, environment and command line.
    """
    yield from _engines(config)
    yield from _server(config)
    yield from _hidden_keys(file, settings)


def _engines(config: Config) -> Iterator[str]:
    preference = config.optimization.engine_preference
    lists: list[tuple[str, Iterable[str]]] = [
        (f"models.{name}.engines", model.engines or ()) for name, model in config.models.items()
    ]
    if preference is not None and preference != "auto":
        key = "optimization.engine_preference"
        lists.append((key, preference))
        if LAST_RESORT_ENGINE not in preference:
            yield f"{key} does not name {LAST_RESORT_ENGINE}; it is tried last."
    for key, names in lists:
        for name in names:
            similar = None if name in DEFAULT_ENGINES else nearest(name, DEFAULT_ENGINES)
            if similar is not None:
                yield f"{key} names {name}, which is no built-in engine. Did you mean {similar}?"


def _server(config: Config) -> Iterator[str]:
    server, prometheus = config.monitoring.server, config.monitoring.prometheus
    if not server.enabled:
        return
    is_loopback = server.host in _LOOPBACK_HOSTS or server.host.startswith("127.")
    if not config.api.enable_auth and not is_loopback:
        yield (
            f"The server listens on {server.host} without api.enable_auth:"
            " everyone who reaches it may use it."
        )
    if not config.api.enable_auth and config.api.api_keys:
        yield "api.api_keys has keys, but api.enable_auth is false: no call needs one."
    if config.monitoring.enabled and prometheus.enabled and prometheus.port == server.port != 0:
        yield (
            f"monitoring.prometheus.port and the server's port are both {server.port}:"
            " metrics will not have a port of their own."
        )


def _hidden_keys(file: Mapping[Path, Setting], settings: Mapping[Path, Setting]) -> Iterator[str]:
    written = file.get(_API_KEYS)
    if written is None or not written.value or settings[_API_KEYS] is written:
        return
    # Who sets a variable for callers seldom means to lock the operator out.
    yield (
        f"{written.written} ({written.place}) does not count beside {settings[_API_KEYS].place},"
        " which takes the place of the whole list: the file's keys are refused, an admin's too."
    )
