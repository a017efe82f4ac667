"""Any graph that fits together: every step once, when what it waits for is there, and no other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.errors import DeadlineError, EngineFailedError, MuAIError
from tests.unit.workflows.scripted_steps import (
    ANSWER,
    Listener,
    Script,
    failure,
    make_graph,
    make_step,
    play,
    slot,
)
from tests.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from mm_orch.workflows.graph_runner import Outcome

MAX_STEPS = 8


@dataclass
class Plan:
    """A step to be: what it reads of the steps before it, and what becomes of it."""

    name: str
    inputs: tuple[int, ...]
    optional_inputs: tuple[int, ...]
    is_optional: bool
    duration_s: float
    fails: bool


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    num_steps = draw(st.integers(1, MAX_STEPS))
    made: list[Plan] = []
    for number in range(num_steps):
        is_last = number == num_steps - 1
        is_optional = not is_last and draw(st.booleans())
        read = draw(st.sets(st.integers(0, number - 1))) if number else set()
        # Who is needed may not need what may be missing.
        soft = {one for one in read if draw(st.booleans()) or (made[one].is_optional > is_optional)}
        made.append(
            Plan(
                name="answer" if is_last else f"s{number}",
                inputs=tuple(sorted(read - soft)),
                optional_inputs=tuple(sorted(soft)),
                is_optional=is_optional,
                duration_s=draw(st.sampled_from([0.0, 1.0, 2.5, 7.0])),
                fails=draw(st.sampled_from([False, False, False, True])),
            )
        )
    return made


class Stage:
    """The graph of some plans, with a script for each step."""

    def __init__(self, planned: list[Plan]) -> None:
        self.planned = planned
        self.scripts = [
            Script(one.duration_s, failures=[failure(one.name)] if one.fails else [])
            for one in planned
        ]
        steps = [
            make_step(
                one.name,
                " ".join(["question", *(planned[index].name for index in one.inputs)]),
                optional_inputs=" ".join(planned[index].name for index in one.optional_inputs),
                script=script,
                is_optional=one.is_optional,
            )
            for one, script in zip(planned, self.scripts, strict=True)
        ]
        self.graph = make_graph(*steps, results=" ".join(one.name for one in planned[:-1]))

    def expected(self) -> list[str]:
        """Say of each step whether it ends well, fails, or is skipped."""
        fates: list[str] = []
        for one in self.planned:
            lacks = any(fates[index] != "ended" for index in one.inputs)
            fates.append("skipped" if lacks else "failed" if one.fails else "ended")
        return fates

    def assert_order(self) -> None:
        """Check that whoever ran began once, and exactly when all it waits for had settled."""
        settled_s: list[float] = []
        for one, script in zip(self.planned, self.scripts, strict=True):
            ready_s = max((settled_s[i] for i in one.inputs + one.optional_inputs), default=0.0)
            assert script.begins_s in ([], [ready_s])
            settled_s.append(ready_s + (one.duration_s if script.begins_s else 0.0))


@given(plans())
def test_every_step_runs_once_in_order_and_failures_reach_dependents_only(
    planned: list[Plan],
) -> None:
    stage = Stage(planned)
    fates = stage.expected()
    fatal = {one.name for one, fate in zip(planned, fates, strict=True) if fate == "failed"}
    fatal -= {one.name for one in planned if one.is_optional}

    if fatal:
        with pytest.raises(EngineFailedError) as failed:
            run_in_virtual_time(play(stage.graph))
        assert str(failed.value) in fatal
    else:
        outcome = run_in_virtual_time(play(stage.graph))
        names = [one.name for one in planned]
        told = dict.fromkeys(names, "ended")
        told |= {one.step: "failed" for one in outcome.failed}
        told |= dict.fromkeys(outcome.skipped, "skipped")
        assert list(told.values()) == fates
        assert outcome.is_partial == ("failed" in fates)
        assert outcome.values[ANSWER].startswith("answer(q")
        stage.assert_order()

    assert not any(script.is_running for script in stage.scripts)
    assert all(len(script.begins_s) <= 1 for script in stage.scripts)


@given(plans(), st.floats(0, 30))
def test_a_cancelled_run_leaves_nothing_running(planned: list[Plan], after_s: float) -> None:
    stage = Stage(planned)

    async def cancel_early() -> bool:
        run = asyncio.create_task(play(stage.graph))
        await asyncio.wait([run], timeout=after_s)
        was_running = not run.done()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert run.cancelled() or not was_running
        # The loop itself tells of tasks that are left.
        return was_running

    run_in_virtual_time(cancel_early())

    assert not any(script.is_running for script in stage.scripts)


PAUSES_S = st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 20.0]), max_size=3 * MAX_STEPS)


@given(plans(), PAUSES_S, st.floats(0.1, 30))
def test_no_run_outlives_its_deadline_and_what_that_cut_off_is_told(
    planned: list[Plan], pauses_s: list[float], timeout_s: float
) -> None:
    stage = Stage(planned)

    async def measure() -> tuple[asyncio.Task[Outcome], float]:
        reader = Listener(pauses_s)
        run = asyncio.create_task(play(stage.graph, reader, timeout_s=timeout_s))
        await asyncio.wait([run])
        return run, asyncio.get_running_loop().time()

    run, end_s = run_in_virtual_time(measure())

    assert end_s <= timeout_s + 1e-6
    assert not any(script.is_running for script in stage.scripts)
    if error := run.exception():
        assert isinstance(error, MuAIError)
        return
    outcome = run.result()
    fates = {one.step: "failed" for one in outcome.failed} | dict.fromkeys(
        outcome.skipped, "skipped"
    )
    # Each step is there, or is said to be missing: nothing is lost without a word.
    for one, script in zip(planned, stage.scripts, strict=True):
        has_ended = slot(one.name) in outcome.values
        assert has_ended == (one.name not in fates)
        assert script.ends_s or not has_ended
    assert outcome.is_partial == bool(fates)
    in_time = end_s < timeout_s
    assert not in_time or not any(isinstance(o.error, DeadlineError) for o in outcome.failed)
