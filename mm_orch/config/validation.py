"""Makes a Config of settings, and faults of those that the schema refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mm_orch.config.keys import ANY_MODEL, MODELS, dotted, generic, keys_by_path
from mm_orch.config.layer import nearest
from mm_orch.config.schema import BUILT_IN_SOURCE, Config
from mm_orch.config.schema.values import LARGEST_INT
from mm_orch.config.setting import DEFAULT, Setting, printable, shown, shown_setting
from mm_orch.core.errors import ConfigError
from mm_orch.core.faults import Fault

if TYPE_CHECKING:
    from mm_orch.config.keys import Path

PydanticError = Mapping[str, Any]

_MODEL_DEPTH = 2


def validate(settings: Mapping[Path, Setting]) -> tuple[Config, dict[Path, list[Fault]]]:
    """Validate all settings.

    Returns:
        the configuration, with defaults in place of what was refused, so that what depends on the
        rest can still be checked; and the faults by the path that they are about.

    Raises:
        ConfigError: the schema refuses what no setting gave: its defaults are wrong.
    """
    faults_by_path: dict[Path, list[Fault]] = {}
    accepted = dict(settings)
    while True:
        outcome = _try_validate(accepted)
        if isinstance(outcome, Config):
            return outcome, faults_by_path
        seen = dict(accepted)
        for path, details in _by_path(outcome).items():
            faults_by_path.setdefault(path, []).extend(_faults(path, details, seen))
            _take_out(path, accepted)
        # INVARIANT: every round refuses a setting or gives a model its missing source.
        if accepted == seen:
            raise ConfigError([fault for faults in faults_by_path.values() for fault in faults])


def _try_validate(settings: Mapping[Path, Setting]) -> Config | list[PydanticError]:
    tree: dict[str, Any] = {}
    for path, setting in settings.items():
        *parents, name = path
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        if _is_model(path):
            branch.setdefault(name, {})
        else:
            branch[name] = setting.value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # Details alone leave this place: the exception holds the values, API keys among them.
        return [dict(details) for details in error.errors(include_url=False, include_input=False)]


def _is_model(path: Path) -> bool:
    return len(path) == _MODEL_DEPTH and path[0] == MODELS


def _by_path(errors: list[PydanticError]) -> dict[Path, list[PydanticError]]:
    details_by_path: dict[Path, list[PydanticError]] = {}
    for error in errors:
        # A default that depends on a refused option is no fault of its own.
        if error["type"] == "default_factory_not_called":
            continue
        details_by_path.setdefault(_path_of(error), []).append(error)
    return details_by_path


def _path_of(error: PydanticError) -> Path:
    """Return the key, or the model, that an error is about."""
    location = tuple(str(part) for part in error["loc"])
    if location[:1] == (MODELS,):
        name_is_refused = location[2:3] == ("[key]",)
        return location[:_MODEL_DEPTH] if name_is_refused else location[: _MODEL_DEPTH + 1]
    for length in range(1, len(location) + 1):
        if location[:length] in keys_by_path():
            return location[:length]
    return location


def _take_out(path: Path, settings: dict[Path, Setting]) -> None:
    """Remove a refused setting and what is below it."""
    for other in [other for other in settings if other[: len(path)] == path]:
        del settings[other]
    is_source = path[:1] == (MODELS,) and path[-1] == "source"
    if is_source and any(other[:_MODEL_DEPTH] == path[:_MODEL_DEPTH] for other in settings):
        # A model needs a source for its other options, and other models' names, to be checked.
        settings[path] = Setting(
            path=path, written=dotted(path), value=BUILT_IN_SOURCE, origin=DEFAULT
        )


def _faults(
    path: Path, details: list[PydanticError], settings: Mapping[Path, Setting]
) -> list[Fault]:
    if _is_model(path):
        words = keys_by_path()[MODELS, ANY_MODEL, "aliases"].kind.entry_words
        place = settings[path].place if path in settings else DEFAULT
        return [Fault(printable(dotted(path)), shown(path[1]), f"must be {words}", place)]
    if path not in settings:
        place = settings[path[:_MODEL_DEPTH]].place if path[:_MODEL_DEPTH] in settings else DEFAULT
        words = keys_by_path()[generic(path)].kind.words
        return [Fault(printable(dotted(path)), "(missing)", f"is required: {words}", place)]
    places = {_place_inside(detail, len(path)) for detail in details}
    # A union states an error for each of its members; those deepest in the value say most.
    deepest = sorted(place for place in places if place) or places
    return [_fault(settings[path], place, details) for place in deepest]


def _place_inside(error: PydanticError, depth: int) -> tuple[int, str] | tuple[()]:
    """Return which entry of a list an error is about, and which of the entry's options."""
    inside = error["loc"][depth:]
    for position, part in enumerate(inside):
        if isinstance(part, int):
            return part, str(inside[position + 1]) if inside[position + 1 :] else ""
    return ()


def _fault(
    setting: Setting, place: tuple[int, str] | tuple[()], details: list[PydanticError]
) -> Fault:
    kind = keys_by_path()[generic(setting.path)].kind
    value, words, written = setting.value, kind.words, setting.written
    if place:
        number, option = place
        value = value[number] if isinstance(value, list) else value
        words = kind.entry_words
        written += f"[{number}]"
        if option in kind.entry_options:
            words = kind.entry_options[option].words
            written += f".{option}"
    is_too_large = any(detail.get("ctx", {}).get("le") == LARGEST_INT for detail in details)
    return Fault(
        key=written,
        value=shown_setting(setting.path, value),
        problem=f"must be {words}" + (f", at most {LARGEST_INT}" if is_too_large else ""),
        origin=setting.place,
        suggestion=nearest(value, kind.choices) if isinstance(value, str) else None,
    )
