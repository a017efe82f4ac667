"""Finds what is wrong with a workflow's steps, all of it, before any of them runs."""

from __future__ import annotations

import graphlib
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from mm_orch.workflows.graph_step import find_writers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mm_orch.workflows.graph_state import Slot
    from mm_orch.workflows.graph_step import Step

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def find_faults(
    steps: Sequence[Step],
    *,
    inputs: Sequence[Slot[Any]],
    answer: Slot[Any],
    results: Sequence[Slot[Any]],
) -> list[str]:
    """Return a sentence for each fault; none for steps that can be run.

    Args:
        steps: of the workflow.
        inputs: slots that are filled before the first step.
        answer: the slot of the final answer.
        results: further slots that are part of what comes out.
    """
    if not steps:
        return ["it has no steps"]
    return [
        *_faults_of_names(steps),
        *_faults_of_bounds(steps),
        *_faults_of_kinds(steps, [*inputs, answer, *results]),
        *_faults_of_writers(steps, inputs),
        *_faults_of_readers(steps, inputs, [answer, *results]),
        *_faults_of_order(steps),
        *_dead_steps(steps, {slot.name for slot in (answer, *results)}),
        *_faults_of_needs(steps, answer),
    ]


def _faults_of_names(steps: Sequence[Step]) -> Iterator[str]:
    for name, count in Counter(step.name for step in steps).items():
        if count > 1:
            yield f"{count} steps are named {name}"
        if not _NAME.fullmatch(name):
            yield f"{name!r} is no name of a step: small letters, digits and _, a letter first"


def _faults_of_bounds(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        if step.max_retries < 0:
            yield f"step {step.name} has max_retries {step.max_retries}; 0 or more are allowed"
        if step.retry_wait_s < 0:
            yield f"step {step.name} has retry_wait_s {step.retry_wait_s:g}; 0 or more are allowed"
        if step.deadline_s is not None and step.deadline_s <= 0:
            yield f"step {step.name} has deadline_s {step.deadline_s:g}; it must be above 0"


def _faults_of_kinds(steps: Sequence[Step], others: Sequence[Slot[Any]]) -> Iterator[str]:
    kinds: dict[str, set[str]] = {}
    for slot in (*others, *(slot for step in steps for slot in (*step.reads, *step.outputs))):
        kinds.setdefault(slot.name, set()).add(slot.kind.__name__)
    for name, found in kinds.items():
        if len(found) > 1:
            yield f"the slot {name} has several types: {', '.join(sorted(found))}"


def _faults_of_writers(steps: Sequence[Step], inputs: Sequence[Slot[Any]]) -> Iterator[str]:
    writers: dict[str, list[str]] = {slot.name: ["the workflow's input"] for slot in inputs}
    for step in steps:
        for slot in step.outputs:
            writers.setdefault(slot.name, []).append(f"step {step.name}")
    for name, found in writers.items():
        if len(found) > 1:
            yield f"the slot {name} is written by {' and by '.join(found)}; it has one writer"


def _faults_of_readers(
    steps: Sequence[Step], inputs: Sequence[Slot[Any]], results: Sequence[Slot[Any]]
) -> Iterator[str]:
    written = {slot.name for step in steps for slot in step.outputs}
    known = written | {slot.name for slot in inputs}
    for step in steps:
        for slot in step.reads:
            if slot.name not in known:
                yield (
                    f"step {step.name} reads {slot.name}, which no step writes and which is no"
                    f" input; known: {', '.join(sorted(known)) or 'none'}"
                )
        for name, count in Counter(slot.name for slot in step.reads).items():
            if count > 1:
                yield f"step {step.name} reads {name} {count} times"
    for slot in results:
        if slot.name not in written:
            yield f"the result {slot.name} is written by no step"


def _faults_of_order(steps: Sequence[Step]) -> Iterator[str]:
    writers = find_writers(steps)
    sorter = graphlib.TopologicalSorter(
        {
            step.name: {writers[slot.name] for slot in step.reads if slot.name in writers}
            for step in steps
        }
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        yield f"steps wait for one another: {' -> '.join(error.args[1])}"


def _dead_steps(steps: Sequence[Step], results: set[str]) -> Iterator[str]:
    """Find steps that lead nowhere: they write something, and nobody ever reads any of it."""
    read = {slot.name for step in steps for slot in step.reads} | results
    for step in steps:
        if step.outputs and not read & _names(step.outputs):
            yield (
                f"step {step.name} leads nowhere: no step reads what it writes"
                f" ({', '.join(slot.name for slot in step.outputs)}), and it is no result"
            )


def _faults_of_needs(steps: Sequence[Step], answer: Slot[Any]) -> Iterator[str]:
    """Find steps that need what may be missing."""
    optional = {step.name for step in steps if step.is_optional}
    writers = find_writers(steps)
    if writers.get(answer.name) in optional:
        yield f"step {writers[answer.name]} writes the answer, so it cannot be optional"
    for step in steps:
        if step.is_optional:
            continue
        for slot in step.inputs:
            if writers.get(slot.name) in optional:
                yield (
                    f"step {step.name} needs {slot.name}, which the optional step"
                    f" {writers[slot.name]} writes: read it as an optional input, or make both"
                    " optional"
                )


def _names(slots: Iterable[Slot[Any]]) -> set[str]:
    return {slot.name for slot in slots}
