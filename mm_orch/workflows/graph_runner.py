"""Runs a graph: each step when what it reads is there, all that can at the same time.

start what waits for nothing
a step has ended    keep what it wrote
    has failed      try it again, or go on without it; a needed one ends the others and the run
start what waited for it, or skip what cannot do without it
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mm_orch.core.errors import DeadlineError, MuAIError, RequestError, WorkflowError
from mm_orch.workflows.deadline import within
from mm_orch.workflows.graph_progress import (
    FailedStep,
    Remark,
    StepEnded,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from mm_orch.workflows.graph_state import StepContext, Values

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock
    from mm_orch.workflows.deadline import RunDeadline
    from mm_orch.workflows.graph import Graph
    from mm_orch.workflows.graph_progress import Tell
    from mm_orch.workflows.graph_step import Step

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has come of a run whose needed steps have all ended well.

    Attributes:
        values: all that was written.
        failed: optional steps that failed, and parts that steps had to do without, in the order in
            which they did; those that the deadline cut off, begun or not, come last.
        skipped: names of the steps that did not run, because of those.
        remarks: what steps said of themselves, in the order in which they ended.
    """

    values: Values
    failed: tuple[FailedStep, ...] = ()
    skipped: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether something is missing."""
        return bool(self.failed or self.skipped)


async def run_graph(
    graph: Graph,
    inputs: Values,
    *,
    tell: Tell,
    clock: Clock,
    deadline: RunDeadline | None = None,
) -> Outcome:
    """Run every step of a graph; when this returns or raises, none of them runs any more.

    Args:
        graph: the steps.
        inputs: of the whole graph; all of its input slots are filled.
        tell: takes the progress.
        clock: of the times that are told, and of what is left of a deadline; it must run as fast
            as the event loop's own, which wakes those whose time is over.
        deadline: of the whole run; None for none.

    Raises:
        MuAIError: what a needed step failed of.
        WorkflowError: a needed step has a fault in its code, or an input is missing.
        DeadlineError: the time was over before the last needed step had ended.
    """
    absent = [slot.name for slot in graph.inputs if slot not in inputs]
    if absent:
        raise WorkflowError(f"The workflow {graph.name} lacks its input {', '.join(absent)}.")
    return await _Run(graph, inputs, tell=tell, clock=clock, deadline=deadline).run()


class _Run:
    """The state of one run; all of it belongs to the task that runs, and those it has started."""

    def __init__(
        self,
        graph: Graph,
        inputs: Values,
        *,
        tell: Tell,
        clock: Clock,
        deadline: RunDeadline | None,
    ) -> None:
        self._graph = graph
        self._tell = tell
        self._clock = clock
        self._deadline = deadline
        self._predecessors = graph.find_predecessors()
        self._values = Values()
        self._values.take(inputs)
        self._waiting = list(graph.steps)
        self._settled: set[str] = set()
        self._failed: list[FailedStep] = []
        self._skipped: list[str] = []
        self._remarks: list[Remark] = []
        self._fatal: MuAIError | None = None

    async def run(self) -> Outcome:
        limit = nullcontext() if self._deadline is None else self._deadline.bound()
        try:
            async with limit, asyncio.TaskGroup() as tasks:
                await self._advance(tasks)
        except DeadlineError as error:
            # What had failed before counts, though nobody was told of it in time.
            if self._fatal is None:
                self._go_without_the_rest(error)
        except BaseExceptionGroup:
            if self._fatal is None:
                raise
        if self._fatal is not None:
            raise self._fatal
        # INVARIANT: without a fatal failure every step has ended, failed or been skipped.
        return Outcome(
            values=self._values,
            failed=tuple(self._failed),
            skipped=tuple(self._skipped),
            remarks=tuple(self._remarks),
        )

    def _go_without_the_rest(self, error: DeadlineError) -> None:
        """Count every step that the deadline cut off as failed of it: begun, waiting or ready."""
        rest = [step for step in self._graph.steps if step.name not in self._settled]
        if not all(step.is_optional for step in rest):
            raise error
        self._failed += [FailedStep(step=step.name, error=error) for step in rest]

    async def _advance(self, tasks: asyncio.TaskGroup) -> None:
        """Start every step whose predecessors are all settled; skip those that lack something."""
        skipped: list[StepSkipped] = []
        # No wait in this loop: no step may be started twice.
        while ready := [step for step in self._waiting if self._is_ready(step)]:
            for step in ready:
                self._waiting.remove(step)
                missing = tuple(slot.name for slot in step.inputs if slot not in self._values)
                if missing:
                    self._settled.add(step.name)
                    self._skipped.append(step.name)
                    skipped.append(StepSkipped(step=step.name, missing=missing))
                else:
                    tasks.create_task(self._perform(step, tasks), name=f"step {step.name}")
        for event in skipped:
            await self._tell(event)

    def _is_ready(self, step: Step) -> bool:
        return self._predecessors[step.name] <= self._settled

    async def _perform(self, step: Step, tasks: asyncio.TaskGroup) -> None:
        begin_s = self._clock()
        await self._tell(StepStarted(step=step.name, begin_s=begin_s))
        num_attempts = 0
        is_over = False
        while not is_over:
            num_attempts += 1
            is_over = await self._attempt(step, num_attempts, begin_s)
        await self._advance(tasks)

    async def _attempt(self, step: Step, num_attempts: int, begin_s: float) -> bool:
        """Try a step once; return whether this was its last attempt."""
        end_s = None if step.deadline_s is None else begin_s + step.deadline_s
        context = self._make_context(step, end_s)
        error = await self._find_failure(step, context, num_attempts, self._left(end_s))
        duration_s = self._clock() - begin_s
        event: StepEnded | StepFailed
        if error is None:
            self._take(context)
            event = StepEnded(
                step=step.name,
                duration_s=duration_s,
                num_attempts=num_attempts,
                lacking=tuple(context.lacking),
                remark=context.remark,
            )
        else:
            event = StepFailed(
                step=step.name,
                duration_s=duration_s,
                num_attempts=num_attempts,
                will_retry=_is_worth_another(step, num_attempts, context, error),
                is_optional=step.is_optional,
                error=error,
            )
            if not event.will_retry:
                self._give_up(step, error)
        _stop_if_told()
        # What has come of the step is known by now: who is told of it may take its time.
        await self._tell(event)
        if self._fatal is not None:
            raise self._fatal
        return isinstance(event, StepEnded) or not event.will_retry

    async def _find_failure(
        self, step: Step, context: StepContext, num_attempts: int, left_s: float | None
    ) -> MuAIError | None:
        """Run an attempt; return what it failed of, or None."""
        try:
            async with within(left_s, lambda: _too_slow(step)):
                if num_attempts > 1:
                    await asyncio.sleep(step.retry_wait_s * 2 ** (num_attempts - 2))
                await _run_guarded(step, context)
            _check_complete(step, context)
        except MuAIError as error:
            return error
        except Exception as error:  # boundary: a step's code may be a plug-in's
            logger.exception("step %s of %s failed", step.name, self._graph.name)
            return WorkflowError(
                f"Step {step.name} of {self._graph.name} failed: {type(error).__name__}.",
                remedy="The log has the reason.",
            )
        return None

    def _take(self, context: StepContext) -> None:
        """Keep what has come of an attempt that has ended well."""
        self._values.take(context.written)
        self._settled.add(context.step)
        self._failed += [FailedStep(step=context.step, error=one) for one in context.lacking]
        if context.remark:
            self._remarks.append(Remark(step=context.step, text=context.remark))

    def _give_up(self, step: Step, error: MuAIError) -> None:
        if step.is_optional:
            self._failed.append(FailedStep(step=step.name, error=error))
            self._settled.add(step.name)
            return
        # The first counts: what fails while the others are ended is a consequence.
        self._fatal = self._fatal or error

    def _make_context(self, step: Step, end_s: float | None) -> StepContext:
        run_end_s = None if self._deadline is None else self._deadline.end_s
        ends = [one for one in (end_s, run_end_s) if one is not None]
        return StepContext(
            step.name,
            readable=frozenset(slot.name for slot in step.reads),
            writable=frozenset(slot.name for slot in step.outputs),
            values=self._values,
            tell=self._tell if step.begins_answer or self._graph.answer in step.outputs else None,
            remaining_s=partial(self._left, min(ends, default=None)),
        )

    def _left(self, end_s: float | None) -> float | None:
        return None if end_s is None else max(0.0, end_s - self._clock())


async def _run_guarded(step: Step, context: StepContext) -> None:
    try:
        await step.run(context)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Nobody asked for it: taken as it is, the step would never end.
        raise WorkflowError(f"Step {step.name} was cancelled by its own code.") from error


def _stop_if_told() -> None:
    """End a step that went on to its end although it was told to stop, as a write has to."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _too_slow(step: Step) -> DeadlineError:
    return DeadlineError(f"Step {step.name} was not complete after {step.deadline_s:g} s.")


def _check_complete(step: Step, context: StepContext) -> None:
    missing = [slot.name for slot in step.outputs if slot not in context.written]
    if missing:
        raise WorkflowError(f"Step {step.name} ended without writing {', '.join(missing)}.")


def _is_worth_another(
    step: Step, num_attempts: int, context: StepContext, error: MuAIError
) -> bool:
    is_final = isinstance(error, RequestError | DeadlineError)
    return num_attempts <= step.max_retries and not context.has_spoken and not is_final
