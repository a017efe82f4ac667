"""Whether options may get other values, and which configuration that makes: a pure decision."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mm_orch.config.command_line import read_overrides
from mm_orch.config.conflicts import find_conflicts
from mm_orch.config.keys import ANY_MODEL, MODELS, dotted, keys_by_path
from mm_orch.config.setting import DEFAULT, Setting, shown_setting
from mm_orch.config.validation import validate
from mm_orch.core.faults import Fault
from mm_orch.core.live_error import LiveChangeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mm_orch.config import Config
    from mm_orch.config.keys import Key, Path

MAX_BATCH_SIZE = "optimization.batcher.max_batch_size"
MIN_BATCH_SIZE = "optimization.batcher.min_batch_size"
BATCH_TIMEOUT = "optimization.batcher.batch_timeout_ms"
MAX_BATCH_TOKENS = "optimization.batcher.max_batch_tokens"
CACHE_MEMORY = "optimization.cache.max_memory_mb"


@functools.cache
def live_keys() -> Mapping[str, Key]:
    """Return the options that may be changed while the server runs, by dotted key.

    Those of any model have a mark in place of its name.
    """
    return {dotted(path): key for path, key in keys_by_path().items() if key.facts.is_live}


def live_paths(config: Config) -> dict[str, Path]:
    """Return the path of each option that may be changed, by dotted key, those of each model."""
    paths = [
        one
        for key in live_keys().values()
        for one in (
            [(MODELS, name, *key.path[2:]) for name in config.models]
            if key.path[:2] == (MODELS, ANY_MODEL)
            else [key.path]
        )
    ]
    return {dotted(path): path for path in paths}


def value_at(config: Config, path: Path) -> Any:
    """Return the value of an option; a path of names of sections, then the option's."""
    value: Any = config
    for name in path:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def read_live(config: Config) -> dict[str, Any]:
    """Return the values of all options that may be changed while the server runs."""
    return {name: value_at(config, path) for name, path in live_paths(config).items()}


def decide(config: Config, values: Mapping[str, object], *, origin: str) -> Config:
    """Return the configuration with these values in it, validated as a whole.

    Args:
        config: in force, and valid.
        values: by dotted key.
        origin: who wants it, for faults.

    Raises:
        LiveChangeError: with every fault.
    """
    layer = read_overrides(values, origin=origin)
    live = set(live_paths(config).values())
    settings = {path: one for path, one in layer.settings.items() if path in live}
    fixed = [one for path, one in layer.settings.items() if path not in live]
    accepted, refused = validate({**_find_sources(config, settings), **settings})
    faults = [*layer.faults, *(_refuse_fixed(config, one) for one in fixed)]
    faults += [fault for group in refused.values() for fault in group]
    sound = {path: one for path, one in settings.items() if path not in refused}
    decided: Config = _replace(config, {path: value_at(accepted, path) for path in sound})
    faults += _find_conflicts(decided, settings, refused)
    faults += _find_idle(config, decided, sound)
    if faults:
        raise LiveChangeError(faults, live_names=tuple(live_keys()))
    return decided


def _find_sources(config: Config, settings: Mapping[Path, Setting]) -> dict[Path, Setting]:
    """Return the sources of models, without which their other options are not valid."""
    paths = [(MODELS, path[1], "source") for path in settings if path[0] == MODELS]
    return {
        path: Setting(path=path, written=dotted(path), value=value_at(config, path), origin=DEFAULT)
        for path in paths
    }


def _refuse_fixed(config: Config, setting: Setting) -> Fault:
    path = setting.path
    problem = "cannot be changed while the server runs; it needs a restart"
    if path[0] == MODELS and path[1] not in config.models:
        problem = f"is of no model that is configured; there are {', '.join(config.models)}"
    return Fault(setting.written, shown_setting(path, setting.value), problem, setting.place)


def _find_conflicts(
    config: Config, settings: Mapping[Path, Setting], refused: Collection[Path]
) -> Iterator[Fault]:
    for conflict in find_conflicts(config):
        if any(path in refused for path in (conflict.path, *conflict.others)):
            # What was refused may have brought it about.
            continue
        setting = settings.get(conflict.path)
        yield Fault(
            dotted(conflict.path),
            shown_setting(conflict.path, conflict.value),
            conflict.problem,
            setting.place if setting else DEFAULT,
            conflict.suggestion,
        )


def _find_idle(before: Config, after: Config, settings: Mapping[Path, Setting]) -> Iterator[Fault]:
    """Refuse to change what is switched off: it would be told as in force and have no effect."""
    optimization = after.optimization
    off = [
        name
        for name, is_on in (
            ("optimization.enabled", optimization.enabled),
            ("optimization.batcher.enabled", optimization.batcher.enabled),
        )
        if not is_on
    ]
    for path, setting in settings.items():
        is_idle = bool(off) and dotted(path) in {MAX_BATCH_SIZE, MIN_BATCH_SIZE}
        if is_idle and value_at(before, path) != value_at(after, path):
            problem = f"has no effect while {off[0]} is false, which needs a restart to change"
            yield Fault(setting.written, shown_setting(path, setting.value), problem, setting.place)


def _replace(section: Any, values: Mapping[Path, Any]) -> Any:
    """Return a section, or sections by name, with other values, by their paths from there."""
    own: dict[str, Any] = {path[0]: value for path, value in values.items() if len(path) == 1}
    for name in {path[0] for path in values if len(path) > 1}:
        inner = section[name] if isinstance(section, dict) else getattr(section, name)
        below = {path[1:]: v for path, v in values.items() if path[0] == name and len(path) > 1}
        own[name] = _replace(inner, below)
    return {**section, **own} if isinstance(section, dict) else section.model_copy(update=own)
