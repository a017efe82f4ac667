"""One step of a workflow: what it reads, writes and may cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_orch.workflows.graph_state import StepContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.workflows.graph_state import Slot

StepFunction = Callable[[StepContext], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One piece of work.

    Attributes:
        name: small letters, digits and ``_``.
        run: does it; errors it raises are the step's failure.
        inputs: what it cannot do without: where one was not written, it is skipped.
        optional_inputs: what it waits for, and can do without.
        outputs: what it writes; a step without outputs is there for what it does.
        is_optional: the workflow goes on when it fails, and tells that its result is partial.
        begins_answer: it says the beginning of the answer that another step writes. What it has
            said stands, whatever becomes of it: that other step begins with it.
        max_retries: further attempts after a failure that is not the caller's.
        retry_wait_s: seconds before the first retry, twice as many before each next one.
        deadline_s: seconds for all attempts together; None for what the workflow has left.
    """

    name: str
    run: StepFunction
    inputs: tuple[Slot[Any], ...] = ()
    optional_inputs: tuple[Slot[Any], ...] = ()
    outputs: tuple[Slot[Any], ...] = ()
    is_optional: bool = False
    begins_answer: bool = False
    max_retries: int = 0
    retry_wait_s: float = 0.0
    deadline_s: float | None = None

    @property
    def reads(self) -> tuple[Slot[Any], ...]:
        """All slots that the step waits for."""
        return (*self.inputs, *self.optional_inputs)


def find_writers(steps: Iterable[Step]) -> dict[str, str]:
    """Return the name of the step that writes each slot."""
    return {slot.name: step.name for step in steps for slot in step.outputs}
