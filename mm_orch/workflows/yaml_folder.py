"""Finds the workflows that are written in YAML: one a file of a folder, read once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.config.setting import printable
from mm_orch.core.errors import Fault, GraphError
from mm_orch.workflows.yaml_workflow import ReadWorkflow, read_workflow

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.yaml_workflow import Surroundings

MAX_FILES = 200
MAX_FILE_BYTES = 256 * 1024
_SUFFIXES = frozenset((".yaml", ".yml"))


@dataclass(frozen=True, slots=True)
class FoundWorkflow:
    """One file.

    Attributes:
        name: under which it is asked for: its own, or where that is not to be had the file's.
        origin: the file.
        outcome: the workflow, or what is wrong with it.
        faults: none of a workflow.
        has_own_name: the name stands in the file, and is no other workflow's.
    """

    name: str
    origin: str
    outcome: Workflow | GraphError
    faults: tuple[Fault, ...] = ()
    has_own_name: bool = True


def read_folder(folder: Path, around: Surroundings) -> tuple[FoundWorkflow, ...]:
    """Return what the folder holds, in the order of the files' names; nothing where there is none.

    Args:
        folder: the files that end with ``.yaml`` or ``.yml`` are read; folders in it are not.
        around: what they are checked against.
    """
    try:
        paths = sorted(one for one in folder.iterdir() if one.suffix in _SUFFIXES)
    except FileNotFoundError:
        return ()
    except OSError as error:
        fault = Fault(
            "workflows.folder", str(folder), f"cannot be read: {error.strerror}", "configuration"
        )
        return (_refused(folder, ReadWorkflow(None, None, (fault,))),)
    found: list[FoundWorkflow] = []
    taken = set(around.taken_names)
    for path in paths[:MAX_FILES]:
        one = _read_file(path, dataclasses.replace(around, taken_names=frozenset(taken)))
        found.append(one)
        if one.has_own_name:
            taken.add(one.name)
    for path in paths[MAX_FILES:]:
        problem = f"is one too many; {MAX_FILES} files are read"
        fault = Fault("file", path.name, problem, printable(str(path)))
        found.append(_refused(path, ReadWorkflow(None, None, (fault,))))
    return tuple(found)


def _read_file(path: Path, around: Surroundings) -> FoundWorkflow:
    origin = printable(str(path))
    text = _read_text(path)
    if isinstance(text, Fault):
        return _refused(path, ReadWorkflow(None, None, (text,)))
    read = read_workflow(text, origin=origin, around=around)
    if read.workflow is None:
        return _refused(path, read)
    return FoundWorkflow(read.workflow.name, origin, read.workflow)


def _read_text(path: Path) -> str | Fault:
    origin = printable(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) <= MAX_FILE_BYTES:
            return content.decode("utf-8-sig")
        problem = f"has more than {MAX_FILE_BYTES} bytes"
    except UnicodeDecodeError as error:
        problem = f"must be UTF-8 text; byte {error.start} is not"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    return Fault("file", path.name, problem, origin)


def _refused(path: Path, read: ReadWorkflow) -> FoundWorkflow:
    name = read.name or path.stem
    error = GraphError(name, [str(fault) for fault in read.faults])
    return FoundWorkflow(
        name, printable(str(path)), error, read.faults, has_own_name=read.name is not None
    )
