"""Loads the configuration: file, environment and command line, in rising precedence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mm_orch.config.command_line import read_overrides
from mm_orch.config.conflicts import find_conflicts
from mm_orch.config.environment import read_environment
from mm_orch.config.file import read_file
from mm_orch.config.keys import ANY_MODEL, MODELS, dotted, keys_by_path
from mm_orch.config.layer import Layer
from mm_orch.config.notices import find_notices
from mm_orch.config.setting import DEFAULT, shown_setting
from mm_orch.config.validation import validate
from mm_orch.core.errors import ConfigError
from mm_orch.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.config.conflicts import Conflict
    from mm_orch.config.keys import Path as KeyPath
    from mm_orch.config.schema import Config
    from mm_orch.config.setting import Setting

DEFAULT_FILE = Path("config/optimization.yaml")


@dataclass(frozen=True, slots=True)
class Shadow:
    """A value of the file that does not count, and the variable or command line that goes first."""

    value: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A valid configuration and where it came from.

    Attributes:
        warnings: sentences for people; nothing in them stops the program.
        origins: for every key: a file's path, a variable's name, ``command line`` or ``default``.
        path: the file that was read, or None.
        shadowed: the keys of the file that something else sets too.
    """

    config: Config
    warnings: tuple[str, ...]
    origins: Mapping[str, str]
    path: Path | None
    shadowed: Mapping[str, Shadow] = field(default_factory=dict)


def load_config(
    *, path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> LoadedConfig:
    """Load and validate everything once.

    Args:
        path: the file; None takes ``config/optimization.yaml`` below the working directory where
            there is one.
        environ: environment variables.
        overrides: values of the command line by dotted key, such as
            ``{"monitoring.server.port": 8001}``; None stands for null, so leave out what was not
            given.

    Raises:
        ConfigError: with every fault in the three origins and between their values.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    file = Layer() if path is None else read_file(path, environ)
    environment, warnings = read_environment(environ)
    layers = (file, environment, read_overrides(overrides))
    settings: dict[KeyPath, Setting] = {}
    for layer in layers:
        settings |= layer.settings
    faults = [fault for layer in layers for fault in layer.faults]
    config, refused = validate(settings)
    faults += [fault for group in refused.values() for fault in group]
    faults += _conflict_faults(config, settings, refused)
    if faults:
        raise ConfigError(faults)
    return LoadedConfig(
        config=config,
        warnings=(*warnings, *find_notices(config, file.settings, settings)),
        origins=MappingProxyType(_origins(config, settings)),
        path=path,
        shadowed=MappingProxyType(_find_shadowed(file, settings)),
    )


def _find_shadowed(file: Layer, settings: Mapping[KeyPath, Setting]) -> dict[str, Shadow]:
    return {
        dotted(path): Shadow(shown_setting(path, setting.value), settings[path].place)
        for path, setting in file.settings.items()
        if settings[path] is not setting
    }


def _conflict_faults(
    config: Config, settings: Mapping[KeyPath, Setting], refused: Mapping[KeyPath, object]
) -> list[Fault]:
    """Make faults of conflicts, but for those that a refused value may have brought about."""
    return [
        _conflict_fault(conflict, settings)
        for conflict in find_conflicts(config)
        if not any(path in refused for path in (conflict.path, *conflict.others))
    ]


def _conflict_fault(conflict: Conflict, settings: Mapping[KeyPath, Setting]) -> Fault:
    setting = settings.get(conflict.path)
    causes = [settings[path] for path in conflict.others if path in settings]
    problem = conflict.problem
    if causes:
        problem += f" ({'; '.join(f'{cause.written}: {cause.place}' for cause in causes)})"
    return Fault(
        key=setting.written if setting else dotted(conflict.path),
        value=shown_setting(conflict.path, conflict.value),
        problem=problem,
        origin=setting.place if setting else DEFAULT,
        suggestion=conflict.suggestion,
    )


def _origins(config: Config, settings: Mapping[KeyPath, Setting]) -> dict[str, str]:
    origins: dict[str, str] = {}
    for generic in keys_by_path():
        is_of_model = generic[:2] == (MODELS, ANY_MODEL)
        names = config.models if is_of_model else (None,)
        for name in names:
            path = generic if name is None else (MODELS, name, *generic[2:])
            setting = settings.get(path)
            origins[dotted(path)] = setting.origin if setting else DEFAULT
    return origins
