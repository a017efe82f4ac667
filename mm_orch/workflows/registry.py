"""Which workflows exist: the built-in ones, plug-ins installed beside them, and those in YAML."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.core.errors import WorkflowError, WorkflowNotFoundError
from mm_orch.core.mind_report import WorkflowFacts
from mm_orch.core.plug_ins import describe_failure, find_targets, import_target
from mm_orch.workflows.contract import ENTRY_POINT_GROUP, Workflow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mm_orch.core.faults import Fault

logger = logging.getLogger(__name__)

_BUILT_IN = {
    "cascade": "mm_orch.workflows.cascade:CASCADE",
    "chat_generate": "mm_orch.workflows.chat_generate:CHAT_GENERATE",
    "lesson_pack": "mm_orch.workflows.lesson_pack:LESSON_PACK",
    "rag_qa": "mm_orch.workflows.rag_qa:RAG_QA",
    "search_qa": "mm_orch.workflows.search_qa:SEARCH_QA",
    "self_ask_search_qa": "mm_orch.workflows.self_ask_search_qa:SELF_ASK_SEARCH_QA",
}
_OF_ITSELF = {"self_description": "mm_orch.workflows.self_description:SELF_DESCRIPTION"}


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
    outcome: Workflow | WorkflowError
    faults: tuple[Fault, ...] = ()
    has_own_name: bool = True


def find_installed(*, knows_itself: bool = True) -> dict[str, str]:
    """Return where the workflows lie that are written in Python, by name.

    Args:
        knows_itself: there is somebody who knows the system itself, so that a workflow may tell.
    """
    return find_targets(ENTRY_POINT_GROUP, _BUILT_IN | (_OF_ITSELF if knows_itself else {}))


class WorkflowRegistry:
    """Reads once what is installed; a workflow is imported when it is first asked for.

    What cannot be imported is not tried again: Python keeps halves of modules that failed.

    Args:
        files: workflows in YAML, right ones and wrong ones; none takes the place of another.
        knows_itself: there is somebody who knows the system itself, so that a workflow may tell.
    """

    def __init__(self, files: Iterable[FoundWorkflow] = (), *, knows_itself: bool = False) -> None:
        self._targets = find_installed(knows_itself=knows_itself)
        self._found: dict[str, Workflow | WorkflowError] = {}
        for file in files:
            if isinstance(file.outcome, WorkflowError):
                logger.warning("%s", file.outcome)
            if file.name not in self._targets:
                self._targets[file.name] = file.origin
                self._found[file.name] = file.outcome

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be asked for, in order."""
        return tuple(sorted(self._targets))

    async def load(self, name: str, *, param: str) -> Workflow:
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
        found = await self._find(name)
        if isinstance(found, WorkflowError):
            raise found.with_traceback(None)
        return found

    async def find_usable(self, names: Collection[str] | None = None) -> list[Workflow]:
        """Return those that can be imported, in order of their names.

        Args:
            names: which to look for; None for all there are.
        """
        wanted = self.names if names is None else [one for one in self.names if one in names]
        found = [await self._find(name) for name in wanted]
        return [one for one in found if isinstance(one, Workflow)]

    async def survey(self) -> list[WorkflowFacts]:
        """Return what can be said of each, whether it can be used or not."""
        return [_describe_fact(name, await self._find(name)) for name in self.names]

    async def _find(self, name: str) -> Workflow | WorkflowError:
        if name not in self._found:
            # A plug-in may import anything, for seconds.
            self._found[name] = await asyncio.to_thread(_import, name, self._targets[name])
        return self._found[name]


def _import(name: str, target: str) -> Workflow | WorkflowError:
    """Return a workflow, or why it cannot be used."""
    try:
        workflow = import_target(target)
    except WorkflowError as error:
        logger.warning("%s", error)
        return error
    except (Exception, SystemExit) as error:  # boundary: a module's code may be a plug-in's
        logger.warning("the workflow %s cannot be imported", name, exc_info=True)
        return WorkflowError(
            f"The workflow {name} ({target}) cannot be imported: {describe_failure(error)}.",
            remedy="Repair the package that provides it, and start the server again.",
        )
    if not isinstance(workflow, Workflow) or workflow.name != name:
        wrong = WorkflowError(f"{target} is no workflow that is named {name}.")
        logger.warning("%s", wrong)
        return wrong
    return workflow


def _describe_fact(name: str, found: Workflow | WorkflowError) -> WorkflowFacts:
    if isinstance(found, WorkflowError):
        return WorkflowFacts(name=name, state="broken", summary="", detail=found.message)
    return WorkflowFacts(name=name, state="available", summary=found.summary, detail="")
