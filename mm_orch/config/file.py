"""The settings in a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.config.interpolation import interpolate
from mm_orch.config.keys import ANY_MODEL, MODELS, SERVER_SPELLING, section_of, sections_by_path
from mm_orch.config.layer import Layer, canonical
from mm_orch.config.setting import Setting, printable
from mm_orch.config.yaml_document import parse_yaml
from mm_orch.core.errors import ConfigError
from mm_orch.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from mm_orch.config.keys import Path
    from mm_orch.config.schema.section import Section
    from mm_orch.config.yaml_document import Node


def read_file(path: FilePath, environ: Mapping[str, str]) -> Layer:
    """Read a configuration file; everything wrong with it is in the layer's faults.

    Args:
        path: the file.
        environ: variables that ``${NAME}`` may refer to.
    """
    layer = Layer()
    origin = printable(str(path))
    try:
        document = parse_yaml(_read_text(path, origin), origin=origin)
    except ConfigError as error:
        layer.faults += error.faults
        return layer
    layer.faults += document.faults
    reader = _FileReader(layer, origin, environ)
    if isinstance(document.root.value, dict):
        reader.read_section((), document.root.value)
    else:
        layer.refuse((), document.root.plain, "must be a mapping of sections", place=origin)
    return layer


def _read_text(path: FilePath, origin: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = "does not exist"
    except UnicodeDecodeError as error:
        problem = f"must be UTF-8 text; byte {error.start} is not"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError:  # a path with a null character
        problem = "is no path"
    raise ConfigError([Fault("file", origin, problem, "--config")])


@dataclass(slots=True)
class _FileReader:
    layer: Layer
    origin: str
    environ: Mapping[str, str]
    _problems: list[str] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)

    def read_section(self, path: Path, entries: dict[str, Node]) -> None:
        section = sections_by_path()[_generic_section(canonical(path))]
        for name, node in entries.items():
            own_path = (*path, name)
            if own_path == (MODELS,):
                self._read_models(node)
            elif own_path == SERVER_SPELLING or _is_section(section, name):
                self._read_nested(own_path, node)
            else:
                self._read_option(own_path, node)

    def _read_models(self, node: Node) -> None:
        for name, entry in self._mapping((MODELS,), node).items():
            path = (MODELS, name)
            # Present without any option too: that is enough for the built-in model.
            self.layer.settings[path] = Setting(
                path=path,
                written=printable(f"{MODELS}.{name}"),
                value={},
                origin=self.origin,
                detail=f"line {entry.line}",
            )
            self._read_nested(path, entry)

    def _read_nested(self, path: Path, node: Node) -> None:
        self.read_section(path, self._mapping(path, node))

    def _mapping(self, path: Path, node: Node) -> dict[str, Node]:
        # A section whose options are all commented out is null in YAML.
        if node.value is None:
            return {}
        if not isinstance(node.value, dict):
            place = f"{self.origin} line {node.line}"
            self.layer.refuse(path, node.plain, "must be a mapping of options", place=place)
            return {}
        return node.value

    def _read_option(self, path: Path, node: Node) -> None:
        self._problems.clear()
        self._names.clear()
        value = self._interpolated(node.plain)
        detail = f"line {node.line}"
        if self._names:
            detail += f", from {', '.join(dict.fromkeys(self._names))}"
        if self._problems:
            problem = "; ".join(self._problems)
            self.layer.refuse(path, node.plain, problem, place=f"{self.origin} {detail}")
        else:
            self.layer.add(path, value, origin=self.origin, detail=detail)

    def _interpolated(self, value: object) -> object:
        match value:
            case str():
                result = interpolate(value, self.environ)
                self._problems += result.problems
                self._names += result.names
                return result.text
            case list():
                return [self._interpolated(entry) for entry in value]
            case dict():
                return {key: self._interpolated(entry) for key, entry in value.items()}
            case _:
                return value


def _generic_section(path: Path) -> Path:
    return (MODELS, ANY_MODEL) if path[:1] == (MODELS,) else path


def _is_section(section: type[Section], name: str) -> bool:
    field_of_name = section.model_fields.get(name)
    return field_of_name is not None and section_of(field_of_name) is not None
