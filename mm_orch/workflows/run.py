"""One run of a workflow in a task of its own, as those who read its progress see it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.errors import WorkflowError
from mm_orch.orchestration.ticket import RUN
from mm_orch.workflows.channel import Channel
from mm_orch.workflows.contract import CALL, SERVICES
from mm_orch.workflows.graph_runner import run_graph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.core.clock import Clock
    from mm_orch.core.routing import Routing
    from mm_orch.orchestration.ticket import Ticket
    from mm_orch.workflows.account import WorkflowAccount
    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.deadline import RunDeadline
    from mm_orch.workflows.graph_progress import Progress
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.graph_state import Values

# A reader that is slower than the answer slows it down; this much is told ahead.
_MAX_AHEAD = 16


class WorkflowRun:
    """One run: iterate it for its progress; then ``outcome`` holds what has come of it."""

    def __init__(
        self,
        workflow: Workflow,
        inputs: Values,
        *,
        routing: Routing,
        place: Ticket,
        deadline: RunDeadline,
        account: WorkflowAccount,
        clock: Clock,
    ) -> None:
        self.workflow = workflow
        self.routing = routing
        self.models = inputs[SERVICES].models
        self.effects = inputs[CALL].effects
        self._account = account
        self._channel: Channel[Progress] = Channel(_MAX_AHEAD)
        self._task = asyncio.create_task(
            self._work(inputs, place, deadline, clock), name=f"workflow {workflow.name}"
        )
        # Not in the task itself: one that is cancelled at once never begins.
        self._task.add_done_callback(self._end)

    @property
    def outcome(self) -> Outcome:
        """What has come of the run, once iteration has ended."""
        if not self._task.done():
            raise WorkflowError("The run is not complete yet.", remedy="Iterate to the end first.")
        return self._task.result()

    async def __aiter__(self) -> AsyncIterator[Progress]:
        async for event in self._channel:
            yield event
        # Raises what the run failed of.
        await self._task

    async def complete(self) -> Outcome:
        """Run to the end without listening.

        Raises:
            MuAIError: what a needed step failed of.
        """
        async for _ in self:
            pass
        return self.outcome

    async def aclose(self) -> None:
        """End whatever still runs; safe at any time."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _work(
        self, inputs: Values, place: Ticket, deadline: RunDeadline, clock: Clock
    ) -> Outcome:
        # Of this task, and of those that it starts.
        RUN.set(place)
        return await run_graph(
            self.workflow.graph, inputs, tell=self._tell, clock=clock, deadline=deadline
        )

    async def _tell(self, event: Progress) -> None:
        self._account.note(event)
        await self._channel.put(event)

    def _end(self, task: asyncio.Task[Outcome]) -> None:
        """Tell of the end before the reader learns of it, and so before the answer is complete."""
        if task.cancelled():
            self._account.finish(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._account.finish(error)
        else:
            self._account.finish(None, task.result())
        self._channel.close()
