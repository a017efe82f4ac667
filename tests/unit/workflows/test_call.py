"""What a call says of itself."""

from __future__ import annotations

from mm_orch.core.generation import Message
from mm_orch.workflows.call import WorkflowCall


def test_instructions_are_the_system_messages_before_the_question() -> None:
    said = [("system", "Be short."), ("user", "Hi"), ("system", "In French."), ("system", "Why?")]
    messages = tuple(Message(role=role, content=text) for role, text in said)  # type: ignore[arg-type]  # roles that there are

    call = WorkflowCall(request_id="r", messages=messages)

    assert call.instructions == ("Be short.", "In French.")
    assert call.question == "Why?"
