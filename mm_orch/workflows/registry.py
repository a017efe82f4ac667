"""Which workflows exist: the built-in ones and plug-ins installed beside them."""

from __future__ import annotations

import importlib
import importlib.metadata

from mm_orch.core.errors import WorkflowError, WorkflowNotFoundError
from mm_orch.workflows.contract import ENTRY_POINT_GROUP, Workflow

# Named here too, so that a checkout works without being installed as a distribution.
_BUILT_IN = {"chat_generate": "mm_orch.workflows.chat_generate:CHAT_GENERATE"}


class WorkflowRegistry:
    """Reads once what is installed; a workflow is imported when it is first asked for."""

    def __init__(self) -> None:
        plug_ins = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        self._targets = {**_BUILT_IN, **{entry.name: entry.value for entry in plug_ins}}
        self._loaded: dict[str, Workflow] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be asked for, in order."""
        return tuple(sorted(self._targets))

    def load(self, name: str, *, param: str) -> Workflow:
        """Return a workflow.

        Args:
            name: how it is asked for.
            param: the field that named it.

        Raises:
            WorkflowNotFoundError: none has this name; says which there are.
            WorkflowError: its module cannot be imported, or offers something else.
            GraphError: its steps do not fit together.
        """
        if name not in self._targets:
            raise WorkflowNotFoundError(
                f"No workflow is named {name!r}. Known: {', '.join(self.names)}.", param=param
            )
        if name not in self._loaded:
            self._loaded[name] = _import(name, self._targets[name])
        return self._loaded[name]


def _import(name: str, target: str) -> Workflow:
    module_name, _, attribute = target.partition(":")
    try:
        workflow = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise WorkflowError(
            f"The workflow {name} ({target}) cannot be imported: {error}.",
            remedy="Install or repair the package that provides it.",
        ) from error
    if not isinstance(workflow, Workflow) or workflow.name != name:
        raise WorkflowError(f"{target} is no workflow that is named {name}.")
    return workflow
