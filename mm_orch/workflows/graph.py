"""A workflow's steps as a whole, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import GraphError
from mm_orch.workflows.graph_checks import find_faults
from mm_orch.workflows.graph_step import find_writers

if TYPE_CHECKING:
    from mm_orch.workflows.graph_state import Slot
    from mm_orch.workflows.graph_step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The steps of a workflow; it has no state, so one serves any number of runs.

    Attributes:
        inputs: slots that are filled before the first step.
        answer: the slot of the final answer; the step that writes it may say pieces of it.
        results: further slots whose values are part of what comes out.

    Raises:
        GraphError: naming all that is wrong.
    """

    name: str
    steps: tuple[Step, ...]
    inputs: tuple[Slot[Any], ...]
    answer: Slot[Any]
    results: tuple[Slot[Any], ...] = ()

    def __post_init__(self) -> None:
        faults = find_faults(
            self.steps, inputs=self.inputs, answer=self.answer, results=self.results
        )
        if faults:
            raise GraphError(self.name, faults)

    def find_predecessors(self) -> dict[str, frozenset[str]]:
        """Return, by step, the names of the steps that it waits for."""
        writers = find_writers(self.steps)
        return {
            step.name: frozenset(writers[slot.name] for slot in step.reads if slot.name in writers)
            for step in self.steps
        }
