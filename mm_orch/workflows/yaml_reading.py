"""Reads a workflow from YAML text: its options, where each stands, and all that is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from mm_orch.config.keys import dotted
from mm_orch.config.kinds import kind_of
from mm_orch.config.layer import nearest
from mm_orch.config.setting import printable, shown
from mm_orch.config.yaml_document import Node, parse_yaml
from mm_orch.core.errors import ConfigError
from mm_orch.core.faults import Fault
from mm_orch.workflows.yaml_options import MAX_STEPS, StepOptions, WorkflowOptions

if TYPE_CHECKING:
    from mm_orch.config.schema.section import Section

S = TypeVar("S", bound="Section")

_STEPS = "steps"
_STAND_INS: dict[str, object] = {_STEPS: {}}


@dataclass(slots=True)
class Places:
    """Collects the faults of one file, each with its line.

    Attributes:
        origin: names the file.
    """

    origin: str
    faults: list[Fault] = field(default_factory=list)
    _lines: dict[tuple[str, ...], int] = field(default_factory=dict)

    def note(self, path: tuple[str, ...], node: Node) -> None:
        """Remember where a key stands."""
        self._lines[path] = node.line

    def has_fault(self, key: str) -> bool:
        """Whether a fault of this key has been stated."""
        return any(fault.key == key for fault in self.faults)

    def refuse(
        self, path: tuple[str, ...], value: object, problem: str, suggestion: str | None = None
    ) -> None:
        """State a fault of a key, or of the nearest one around it whose line is known."""
        lines = (self._lines.get(path[:length]) for length in range(len(path), -1, -1))
        line = next((one for one in lines if one is not None), 1)
        self.faults.append(
            Fault(
                key=printable(dotted(path)),
                value=shown(value),
                problem=problem,
                origin=f"{self.origin} line {line}",
                suggestion=suggestion,
            )
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """What could be read of a file.

    Attributes:
        name: of the workflow; None where the file has none that can be read.
        options: of the file; None where it has none.
        steps: by name, those that are steps.
        step_names: all of them.
    """

    name: str | None
    options: WorkflowOptions | None
    steps: dict[str, StepOptions]
    step_names: tuple[str, ...]


def read_draft(text: str, places: Places) -> Draft:
    """Read a file's text; everything wrong with its keys and values is in the faults."""
    try:
        document = parse_yaml(text, origin=places.origin)
    except ConfigError as error:
        places.faults += error.faults
        return Draft(None, None, {}, ())
    places.faults += document.faults
    root = document.root
    options = _read_section(WorkflowOptions, root, (), places)
    entries = root.value if isinstance(root.value, dict) else {}
    name = entries.get("name")
    nodes = entries[_STEPS].value if _STEPS in entries else None
    steps = nodes if isinstance(nodes, dict) else {}
    if isinstance(nodes, dict) and not 0 < len(nodes) <= MAX_STEPS:
        places.refuse((_STEPS,), len(nodes), f"must be 1 to {MAX_STEPS} steps")
    read = {
        step: _read_section(StepOptions, node, (_STEPS, step), places)
        for step, node in list(steps.items())[:MAX_STEPS]
    }
    return Draft(
        name=name.value if name is not None and isinstance(name.value, str) else None,
        options=options,
        steps={step: found for step, found in read.items() if found is not None},
        step_names=tuple(steps),
    )


def _read_section(section: type[S], node: Node, path: tuple[str, ...], places: Places) -> S | None:
    """Return a section, or None where it is none.

    What is wrong in it has a stand-in, so that the rest can still be checked.
    """
    places.note(path, node)
    if not isinstance(node.value, dict):
        places.refuse(path or ("file",), node.plain, "must be a mapping of options")
        return None
    entries = {name: entry.plain for name, entry in node.value.items()}
    for name, entry in node.value.items():
        places.note((*path, name), entry)
    try:
        return section.model_validate(entries)
    except ValidationError as error:
        # A union states an error for each of its members.
        wrong = {str(details["loc"][0]): details["type"] for details in error.errors()}
    for name, kind in wrong.items():
        _refuse_option(section, node.value, (*path, name), kind, places)
    right = {name: entry for name, entry in entries.items() if name not in wrong}
    missing = [name for name in wrong if _is_required(section, name)]
    return section.model_validate(right | {name: _STAND_INS.get(name, "x") for name in missing})


def _is_required(section: type[Section], name: str) -> bool:
    return name in section.model_fields and section.model_fields[name].is_required()


def _refuse_option(
    section: type[Section],
    entries: dict[str, Node],
    path: tuple[str, ...],
    kind: str,
    places: Places,
) -> None:
    name, fields = path[-1], section.model_fields
    if name not in fields:
        what = f"is not an option of {printable(dotted(path[:-1])) or 'a workflow'}"
        known = nearest(name, (one for one in fields if one not in entries))
        places.refuse(path, entries[name].plain, what, known)
        return
    words = kind_of(fields[name].annotation, tuple(fields[name].metadata)).words
    if kind == "missing":
        places.refuse(path, "(missing)", f"is required: {words}")
    else:
        places.refuse(path, entries[name].plain, f"must be {words}")
