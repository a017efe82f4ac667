"""The step that stores a turn in its session; workflows that hold conversations end with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.errors import StorageError
from mm_orch.workflows.contract import ANSWER, CALL, KEPT, SERVICES, Kept
from mm_orch.workflows.graph_step import Step

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from mm_orch.storage.sessions import Appended
    from mm_orch.workflows.graph_state import StepContext

# A write waits for another process's for up to 5 s, and then takes milliseconds.
_MAX_WRITE_S = 6.0


async def keep_turn(context: StepContext) -> None:
    """Store question and answer, where the call belongs to a session."""
    call, services = context[CALL], context[SERVICES]
    if call.session is None:
        context.put(KEPT, Kept(None))
        return
    turn = await _finish(
        services.sessions.append_turn(
            call.owner,
            call.session.session_id,
            question=call.question,
            answer=context[ANSWER].text,
            is_new=call.session.is_new,
        )
    )
    context.put(KEPT, Kept(turn))


async def _finish(write: Coroutine[Any, Any, Appended]) -> Appended:
    """Return what has come of a write, even if the step is to end meanwhile.

    Whoever writes does not stop for that, and the caller of a turn that is stored after it was said
    to be lost would store it twice.
    """
    writing = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,), timeout=_MAX_WRITE_S)
        if not writing.done():
            writing.cancel()
            raise StorageError(
                f"The turn was not stored within {_MAX_WRITE_S:g} s; it may be yet.",
                remedy="Read the session before you send the message again.",
            ) from None
        return writing.result()


# Optional: whoever has read the answer has it, stored or not, and is told which.
KEEP = Step(
    name="keep",
    run=keep_turn,
    inputs=(CALL, SERVICES, ANSWER),
    outputs=(KEPT,),
    is_optional=True,
)
