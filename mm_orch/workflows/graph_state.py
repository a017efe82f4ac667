"""The values that steps hand to one another, and what one step may do with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mm_orch.core.errors import WorkflowError
from mm_orch.workflows.graph_progress import AnswerPiece, ThoughtPiece

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.errors import MuAIError
    from mm_orch.workflows.graph_progress import Tell

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slot(Generic[T]):
    """A named place for one value of one type; written once in a run."""

    name: str
    kind: type[T]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind.__name__})"


class Values:
    """What has been written so far; read by slot, so that types are kept."""

    def __init__(self) -> None:
        self._value_by_name: dict[str, Any] = {}

    def __contains__(self, slot: Slot[Any]) -> bool:
        return slot.name in self._value_by_name

    def __getitem__(self, slot: Slot[T]) -> T:
        value: T = self._value_by_name[slot.name]
        return value

    def find(self, slot: Slot[T]) -> T | None:
        """Return the value, or None where nothing was written."""
        return self._value_by_name.get(slot.name)

    def put(self, slot: Slot[T], value: T) -> None:
        """Write a value.

        Raises:
            WorkflowError: it is of another type than the slot's.
        """
        if not isinstance(value, slot.kind):
            raise WorkflowError(
                f"The slot {slot} cannot hold {type(value).__name__}: {str(value)[:60]!r}."
            )
        self._value_by_name[slot.name] = value

    def take(self, others: Values) -> None:
        """Write all that the others hold."""
        self._value_by_name.update(others._value_by_name)


class StepContext:
    """One attempt of one step, as the step's own code sees it.

    What it writes counts when the attempt has ended well, and so does its ``remark``, which tells
    people what it did; what it says is said at once, so a step that has spoken is not tried again.

    Args:
        step: its name.
        readable: names of the slots that it may read.
        writable: names of those that it must write.
        values: of the run so far.
        tell: takes what is said; None for a step that does not write the answer.
        remaining_s: gives the seconds left to the step; None for any number.
    """

    def __init__(
        self,
        step: str,
        *,
        readable: frozenset[str],
        writable: frozenset[str],
        values: Values,
        tell: Tell | None,
        remaining_s: Callable[[], float | None],
    ) -> None:
        self.step = step
        self.written = Values()
        self.has_spoken = False
        self.lacking: list[MuAIError] = []
        self.remark = ""
        self.remaining_s = remaining_s
        self._readable = readable
        self._writable = writable
        self._values = values
        self._tell = tell

    def __getitem__(self, slot: Slot[T]) -> T:
        """Return what was written to a slot that the step has among its inputs."""
        self._check_readable(slot)
        return self._values[slot]

    def find(self, slot: Slot[T]) -> T | None:
        """Return the same of an optional input, or None where its writer failed."""
        self._check_readable(slot)
        return self._values.find(slot)

    def put(self, slot: Slot[T], value: T) -> None:
        """Write one of the step's outputs.

        Raises:
            WorkflowError: it is none of them, or the value is of another type.
        """
        if slot.name not in self._writable:
            raise WorkflowError(
                f"Step {self.step} writes {slot.name}, which is not among its outputs:"
                f" {_listed(self._writable)}."
            )
        self.written.put(slot, value)

    def lack(self, error: MuAIError) -> None:
        """Note a part that the step does without; once it has ended, the result is partial."""
        self.lacking.append(error)

    async def say(self, text: str) -> None:
        """Give the next piece of the final answer to whoever listens.

        Raises:
            WorkflowError: the step does not write the answer.
        """
        await self._speak(AnswerPiece(text))

    async def think(self, text: str) -> None:
        """Give the next piece of what the model thinks before it answers; raises as :meth:`say`."""
        await self._speak(ThoughtPiece(text))

    async def _speak(self, piece: AnswerPiece | ThoughtPiece) -> None:
        if self._tell is None:
            raise WorkflowError(
                f"Step {self.step} says something, but it does not write the workflow's answer."
            )
        self.has_spoken = True
        await self._tell(piece)

    def _check_readable(self, slot: Slot[Any]) -> None:
        if slot.name not in self._readable:
            raise WorkflowError(
                f"Step {self.step} reads {slot.name}, which is not among its inputs:"
                f" {_listed(self._readable)}."
            )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
