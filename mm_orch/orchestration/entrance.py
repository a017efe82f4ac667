"""The way of every request from the door to an engine: admitted, let through, counted."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mm_orch.core.events import LoadChanged
from mm_orch.orchestration.ticket import RUN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.core.events import Observer
    from mm_orch.orchestration.account import RequestAccount
    from mm_orch.orchestration.admission import Admission
    from mm_orch.orchestration.gate import Gate
    from mm_orch.orchestration.running import Deadline
    from mm_orch.orchestration.ticket import Ticket


class Entrance:
    """One for all kinds of requests.

    Args:
        admission: says who may come in, and counts.
        gate: says who goes next.
        observer: told how many wait and run.
    """

    def __init__(self, admission: Admission, gate: Gate, observer: Observer) -> None:
        self.gate = gate
        self._admission = admission
        self._observer = observer
        self._has_emptied = asyncio.Event()

    @contextmanager
    def place(
        self, account: RequestAccount, deadline: Deadline, *, priority: int, content: object
    ) -> Iterator[Ticket]:
        """Hold a place in the queue; raises OverloadError where there is none.

        What belongs to a run that was let in always finds one.

        Args:
            account: of the request.
            deadline: that it has.
            priority: that it has.
            content: what is asked.
        """
        model, run = account.model, RUN.get()
        account.num_waiting_before = self._admission.count_waiting(model)
        account.num_running_before = self._admission.count_running(model)
        ticket = self._admission.enter(
            model,
            caller=account.caller,
            priority=priority,
            timeout_s=deadline.timeout_s,
            run=run,
            content=content,
        )
        if run is not None and run.model != model:
            self._report_load(run.model)
        self._report_load(model)
        try:
            yield ticket
        finally:
            self._admission.leave(ticket)
            self.gate.leave(ticket)
            self.gate.charge(ticket, account.num_generated_tokens)
            self._report_load(model)
            self._has_emptied.set()

    @contextmanager
    def place_run(
        self, model: str, *, caller: str, priority: int, timeout_s: float, content: object
    ) -> Iterator[Ticket]:
        """Hold a place for a run of a workflow; raises OverloadError where there is none."""
        run = self._admission.enter_run(
            model, caller=caller, priority=priority, timeout_s=timeout_s, content=content
        )
        self._report_load(model)
        try:
            yield run
        finally:
            self._admission.leave_run(run)
            self._report_load(model)
            self._has_emptied.set()

    def begin(self, ticket: Ticket) -> None:
        """Note that a request's first step has run."""
        self._admission.start(ticket)
        self._report_load(ticket.model)
        # What the model's engine can work on may be known only now.
        self.gate.wake(ticket.model)

    async def wait_until_empty(self) -> None:
        """Wait until no request is admitted any more, and no run goes on."""
        admission = self._admission
        while admission.num_running + admission.num_waiting + admission.num_runs:
            self._has_emptied.clear()
            await self._has_emptied.wait()

    def _report_load(self, model: str) -> None:
        self._observer.observe(
            LoadChanged(
                model=model,
                num_running=self._admission.count_running(model),
                num_waiting=self._admission.count_waiting(model),
            )
        )
