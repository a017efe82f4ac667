"""The step that stores a turn in its session; workflows that hold conversations end with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.storage.finishing import finish
from mm_orch.workflows.contract import ANSWER, CALL, KEPT, SERVICES, Kept
from mm_orch.workflows.graph_step import Step

if TYPE_CHECKING:
    from mm_orch.workflows.graph_state import StepContext


async def keep_turn(context: StepContext) -> None:
    """Store question and answer, where the call belongs to a session."""
    call, services = context[CALL], context[SERVICES]
    if call.session is None:
        context.put(KEPT, Kept(None))
        return
    turn = await finish(
        services.sessions.append_turn(
            call.owner,
            call.session.session_id,
            question=call.question,
            answer=context[ANSWER].text,
            is_new=call.session.is_new,
        ),
        "turn",
        remedy="Read the session before you send the message again.",
    )
    context.put(KEPT, Kept(turn))


# Optional: whoever has read the answer has it, stored or not, and is told which.
KEEP = Step(
    name="keep",
    run=keep_turn,
    inputs=(CALL, SERVICES, ANSWER),
    outputs=(KEPT,),
    is_optional=True,
)
