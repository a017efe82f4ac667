"""Finds the workflows that are written in YAML: one a file of a folder, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.config.setting import printable
from mm_orch.core.errors import GraphError
from mm_orch.core.faults import Fault
from mm_orch.workflows.registry import FoundWorkflow, find_installed
from mm_orch.workflows.yaml_workflow import ReadWorkflow, Surroundings, read_workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from mm_orch.core.guide import Guide

MAX_FILES = 200
MAX_FILE_BYTES = 256 * 1024
_SUFFIXES = frozenset((".yaml", ".yml"))


def read_folder(
    folder: Path,
    *,
    models: Collection[str],
    find_reason: Callable[[Guide], str] | None = None,
) -> tuple[FoundWorkflow, ...]:
    """Return what the folder holds, in the order of the files' names; nothing where there is none.

    Args:
        folder: the files that end with ``.yaml`` or ``.yml`` are read; folders in it are not.
        models: every name and alias of a model that generates.
        find_reason: says why answers cannot be kept to a guide; None leaves that to the calls.
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
    taken = set(find_installed())
    for path in paths[:MAX_FILES]:
        around = Surroundings(taken_names=taken, models=models, find_reason=find_reason)
        one = _read_file(path, around)
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
