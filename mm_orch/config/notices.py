"""Warnings: what is allowed, but has no effect yet or is probably not what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_orch.config.keys import dotted, find_key
from mm_orch.config.layer import nearest
from mm_orch.config.schema import DEFAULT_ENGINES, LAST_RESORT_ENGINE
from mm_orch.config.schema.section import Section, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mm_orch.config.keys import Key, Path
    from mm_orch.config.schema import Config
    from mm_orch.config.setting import Setting

_LOOPBACK_HOSTS = {"localhost", "::1"}


def find_notices(config: Config, settings: Mapping[Path, Setting]) -> Iterator[str]:
    """Yield a sentence for everything worth a warning.

    Args:
        config: the valid configuration.
        settings: what was set explicitly; defaults give no warning.
    """
    yield from _unbuilt(config, settings)
    yield from _engines(config)
    yield from _server(config)


def _unbuilt(config: Config, settings: Mapping[Path, Setting]) -> Iterator[str]:
    names_by_group: dict[str, list[str]] = {}
    for path in settings:
        key = find_key(path)
        if key is None:
            continue
        value = _value_at(config, path)
        if key.unbuilt_section is not None and _is_switched_off(config, path):
            continue
        if not key.is_built and _has_effect(value, key):
            group = key.unbuilt_section or path[:-1]
            names_by_group.setdefault(dotted(group), []).append(_name_in(key, path))
        for text in _unbuilt_inside(path, value):
            yield f"{text} is valid but not built in this version yet: it has no effect."
    for section, names in names_by_group.items():
        yield _unbuilt_sentence(section, names)


def _unbuilt_sentence(section: str, names: list[str]) -> str:
    keys = [f"{section}.{name}" for name in dict.fromkeys(names)]
    if len(keys) == 1:
        return f"{keys[0]} is valid but not built in this version yet: it has no effect."
    return f"{', '.join(keys)} are valid but not built in this version yet: they have no effect."


def _name_in(key: Key, path: Path) -> str:
    return path[-1] if key.unbuilt_section is None else "*"


def _is_switched_off(config: Config, path: Path) -> bool:
    """Whether the option's own section has ``enabled: false``."""
    return getattr(_value_at(config, path[:-1]), "enabled", None) is False


def _has_effect(value: object, key: Key) -> bool:
    """Whether the value asks for the feature; its default and what switches it off do not."""
    if value is None or value is False or value == key.default:
        return False
    return key.facts.off_value is None or value != key.facts.off_value


def _unbuilt_inside(path: Path, value: object) -> Iterator[str]:
    """Yield options that are not built in the entries of a list."""
    if not isinstance(value, tuple):
        return
    for number, entry in enumerate(value):
        if isinstance(entry, Section):
            for name, field in type(entry).model_fields.items():
                if not facts_of(field).is_built and getattr(entry, name) != field.default:
                    yield f"{dotted(path)}[{number}].{name}"


def _value_at(config: Config, path: Path) -> Any:
    value: Any = config
    for name in path:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


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
