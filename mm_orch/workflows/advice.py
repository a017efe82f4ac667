"""What workflows ask of whoever knows the system's own state; without one, nothing changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace as replace_fields

from mm_orch.core.generation import Message

if TYPE_CHECKING:
    from mm_orch.core.effects import Advice
    from mm_orch.workflows.call import WorkflowCall


class Advisor(Protocol):
    """Knows which workflows are allowed, and how the system would answer by itself.

    All but ``describe`` answer at once.
    """

    def check(self, workflow: str, *, param: str) -> None:
        """Let a call of a workflow pass.

        Args:
            workflow: its name.
            param: the field that named it.

        Raises:
            WorkflowLockedError: it is of a later stage; says what leads there.
        """

    def is_unlocked(self, workflow: str) -> bool:
        """Whether a call of a workflow would pass."""

    def advise(self, *, has_instructions: bool, has_temperature: bool) -> Advice:
        """Return how a conversation is to be answered, where its caller does not say itself.

        Args:
            has_instructions: the caller has given some.
            has_temperature: the caller has set one.
        """

    def find_workflow(self, question: str) -> str | None:
        """Return the workflow for a question about the system itself; None for any other."""

    async def describe(self, question: str) -> str:
        """Answer a question about the system itself, by what is so now."""


def follow(advisor: Advisor, call: WorkflowCall) -> WorkflowCall:
    """Return the call as it is to be answered; its effects tell what was changed.

    A call with a seed stays as it is: it is to have the same answer each time.
    """
    if call.options.seed is not None:
        return call
    advice = advisor.advise(
        has_instructions=call.messages[0].role == "system",
        has_temperature=call.options.temperature is not None,
    )
    messages, options = call.messages, call.options
    if advice.instruction is not None:
        messages = (Message(role="system", content=advice.instruction), *messages)
    if advice.temperature is not None:
        options = replace_fields(options, temperature=advice.temperature)
    return replace(
        call, messages=messages, options=options, effects=(*call.effects, *advice.effects)
    )
