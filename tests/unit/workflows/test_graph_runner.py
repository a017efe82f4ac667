"""One run at a time, in virtual time: order, retries, deadlines, what is missing, what is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    EngineFailedError,
    InvalidValueError,
    MuAIError,
    WorkflowError,
)
from mm_orch.workflows.graph_progress import (
    AnswerPiece,
    Remark,
    StepEnded,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from mm_orch.workflows.graph_runner import run_graph
from mm_orch.workflows.graph_state import Slot, Values
from mm_orch.workflows.graph_step import Step
from tests.unit.workflows.scripted_steps import (
    ANSWER,
    QUESTION,
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
    from collections.abc import Callable

    from mm_orch.workflows.graph_state import StepContext


def test_branches_run_at_the_same_time_and_the_next_step_waits_for_both() -> None:
    slow, fast, last = Script(3), Script(2), Script(1)
    graph = make_graph(
        make_step("slow", script=slow),
        make_step("fast", script=fast),
        make_step("answer", "slow fast", script=last),
    )

    outcome = run_in_virtual_time(play(graph))

    assert outcome.values[ANSWER] == "answer(slow(q),fast(q))"
    assert (slow.begins_s, fast.begins_s, last.begins_s) == ([0], [0], [3])
    assert not outcome.is_partial


def test_a_failure_is_tried_again_so_often_and_waits_twice_as_long_each_time() -> None:
    script = Script(1, failures=[failure(), failure()])
    listener = Listener()
    graph = make_graph(make_step("answer", script=script, max_retries=2, retry_wait_s=10))

    outcome = run_in_virtual_time(play(graph, listener))

    assert outcome.values[ANSWER] == "answer(q)"
    assert script.begins_s == [0, 11, 32]
    assert [(one.num_attempts, one.will_retry) for one in listener.named(StepFailed)] == [
        (1, True),
        (2, True),
    ]
    [ended] = listener.named(StepEnded)
    assert (ended.num_attempts, ended.duration_s) == (3, 33)


@pytest.mark.parametrize(
    ("script", "num_attempts"),
    [
        (Script(failures=[failure()] * 9), 3),
        (Script(failures=[InvalidValueError("no such model")]), 1),
        (Script(failures=[failure()], words=["Once"]), 1),
        (Script(failures=[DeadlineError("too late")]), 1),
    ],
    ids=["all attempts", "the caller's fault", "said something", "no time"],
)
def test_a_needed_step_that_fails_for_good_fails_the_run_with_its_error(
    script: Script, num_attempts: int
) -> None:
    graph = make_graph(make_step("answer", script=script, max_retries=2))

    with pytest.raises(MuAIError) as failed:
        run_in_virtual_time(play(graph))

    assert failed.value is script.failures[num_attempts - 1]
    assert len(script.begins_s) == num_attempts


def test_a_needed_step_that_fails_ends_the_others_at_once() -> None:
    endless, failing = Script(1000), Script(2, failures=[failure("first")])
    graph = make_graph(
        make_step("endless", script=endless),
        make_step("failing", script=failing),
        make_step("answer", "endless failing"),
    )

    async def measure() -> float:
        with pytest.raises(EngineFailedError, match="first"):
            await play(graph)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(measure()) == 2
    assert not endless.is_running


def test_without_an_optional_step_the_result_is_partial_and_names_it() -> None:
    listener = Listener()
    broken = failure("no network")
    graph = make_graph(
        make_step("search", script=Script(failures=[broken]), is_optional=True),
        make_step("read", "search", is_optional=True),
        make_step("answer", "question", optional_inputs="read"),
        results="search",
    )

    outcome = run_in_virtual_time(play(graph, listener))

    assert outcome.is_partial
    assert [(one.step, one.error) for one in outcome.failed] == [("search", broken)]
    assert outcome.skipped == ("read",)
    assert listener.named(StepSkipped) == [StepSkipped(step="read", missing=("search",))]
    assert outcome.values[ANSWER] == "answer(q,None)"
    assert outcome.values.find(slot("search")) is None


def test_a_fault_in_a_steps_code_is_an_error_of_the_workflow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    graph = make_graph(make_step("answer", script=Script(failures=[KeyError("secret")])))

    with pytest.raises(WorkflowError, match="Step answer of tried failed: KeyError") as failed:
        run_in_virtual_time(play(graph))

    assert "secret" not in str(failed.value)
    assert "secret" in caplog.text


def test_a_step_that_cancels_itself_has_failed() -> None:
    graph = make_graph(make_step("answer", script=Script(failures=[asyncio.CancelledError()])))

    with pytest.raises(WorkflowError, match="cancelled by its own code"):
        run_in_virtual_time(play(graph))


def test_a_steps_deadline_counts_all_its_attempts() -> None:
    script = Script(2, failures=[failure()] * 9)
    graph = make_graph(make_step("answer", script=script, max_retries=9, deadline_s=5))

    with pytest.raises(DeadlineError, match="Step answer was not complete after 5 s"):
        run_in_virtual_time(play(graph))

    assert script.begins_s == [0, 2, 4]


def test_a_run_whose_time_is_over_before_it_begins_does_nothing() -> None:
    script = Script()
    listener = Listener()

    with pytest.raises(DeadlineError, match="The workflow tried was not complete after 0 s"):
        run_in_virtual_time(
            play(make_graph(make_step("answer", script=script)), listener, timeout_s=0)
        )

    assert (script.begins_s, listener.events) == ([], [])


def test_the_whole_deadline_ends_every_step() -> None:
    script = Script(100)
    graph = make_graph(make_step("answer", script=script))

    with pytest.raises(DeadlineError, match="The workflow tried was not complete after 7 s"):
        run_in_virtual_time(play(graph, timeout_s=7))

    assert not script.is_running


def test_when_the_time_is_over_optional_steps_are_gone_without() -> None:
    graph = make_graph(
        make_step("answer", script=Script(1)),
        make_step("check", "answer", script=Script(100), is_optional=True),
        make_step("note", "check", is_optional=True),
        results="check note",
    )

    outcome = run_in_virtual_time(play(graph, timeout_s=7))

    assert outcome.is_partial
    assert outcome.values[ANSWER] == "answer(q)"
    assert [one.step for one in outcome.failed] == ["check", "note"]
    assert {type(one.error) for one in outcome.failed} == {DeadlineError}


def test_what_a_slow_reader_keeps_from_beginning_in_time_has_failed() -> None:
    graph = make_graph(
        make_step("answer", script=Script(1, words=["w"])),
        make_step("keep", "answer", is_optional=True),
        results="keep",
    )
    # It has not taken the answer's end when the time is over.
    reader = Listener([0, 0, 100])

    outcome = run_in_virtual_time(play(graph, reader, timeout_s=7))

    assert outcome.is_partial
    [failed] = outcome.failed
    assert (failed.step, type(failed.error)) == ("keep", DeadlineError)


@pytest.mark.parametrize("is_optional", [True, False])
def test_a_failure_that_a_slow_reader_has_not_been_told_of_is_no_deadline(
    is_optional: bool,  # noqa: FBT001 - parametrised
) -> None:
    broken = failure("broken")
    graph = make_graph(
        make_step("answer"),
        make_step("extra", script=Script(1, failures=[broken]), is_optional=is_optional),
        results="extra",
    )
    reader = Listener([0, 0, 0, 100])

    if is_optional:
        outcome = run_in_virtual_time(play(graph, reader, timeout_s=7))
        assert [one.error for one in outcome.failed] == [broken]
    else:
        with pytest.raises(EngineFailedError, match="broken"):
            run_in_virtual_time(play(graph, reader, timeout_s=7))


def test_a_step_that_finishes_what_it_has_begun_counts_when_the_time_is_over() -> None:
    async def write(context: StepContext) -> None:
        # As a write that cannot be taken back.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        await asyncio.sleep(2)
        context.put(slot("keep"), "kept")

    listener = Listener()
    graph = make_graph(
        make_step("answer"),
        Step(name="keep", run=write, inputs=(ANSWER,), outputs=(slot("keep"),), is_optional=True),
        make_step("note", "keep", is_optional=True),
        results="keep note",
    )

    outcome = run_in_virtual_time(play(graph, listener, timeout_s=7))

    assert outcome.values[slot("keep")] == "kept"
    # Nothing more begins.
    assert [one.step for one in outcome.failed] == ["note"]
    assert [one.step for one in listener.named(StepStarted)] == ["answer", "keep"]


def test_a_step_is_told_how_much_time_it_has_left() -> None:
    told: list[float | None] = []

    async def look(context: StepContext) -> None:
        told.append(context.remaining_s())
        await asyncio.sleep(2)
        told.append(context.remaining_s())
        context.put(ANSWER, "a")

    def graph_of(deadline_s: float | None) -> object:
        return make_graph(Step(name="answer", run=look, outputs=(ANSWER,), deadline_s=deadline_s))

    run_in_virtual_time(play(graph_of(5), timeout_s=9))
    run_in_virtual_time(play(graph_of(50), timeout_s=9))
    run_in_virtual_time(play(graph_of(None)))

    assert told == [5, 3, 9, 7, None, None]


def test_progress_is_told_in_order_with_the_pieces_of_the_answer() -> None:
    listener = Listener()
    graph = make_graph(
        make_step("look", script=Script(1)),
        make_step("answer", "look", script=Script(2, words=["Hel", "lo"])),
    )

    run_in_virtual_time(play(graph, listener))

    assert listener.events == [
        StepStarted(step="look", begin_s=0),
        StepEnded(step="look", duration_s=1, num_attempts=1),
        StepStarted(step="answer", begin_s=1),
        AnswerPiece("Hel"),
        AnswerPiece("lo"),
        StepEnded(step="answer", duration_s=2, num_attempts=1),
    ]


async def _lack_a_part(context: StepContext) -> None:
    context.lack(failure("no network"))
    context.remark = "One of two."
    context.put(ANSWER, "one")


def test_a_step_says_what_it_did_and_what_it_did_without() -> None:
    listener = Listener()
    step = Step(name="answer", run=_lack_a_part, inputs=(QUESTION,), outputs=(ANSWER,))

    outcome = run_in_virtual_time(play(make_graph(step), listener))

    assert outcome.is_partial
    assert [(one.step, str(one.error)) for one in outcome.failed] == [
        ("answer", str(failure("no network")))
    ]
    assert outcome.remarks == (Remark(step="answer", text="One of two."),)
    [ended] = listener.named(StepEnded)
    assert ended.remark == "One of two."


def test_what_a_failed_attempt_lacked_and_remarked_does_not_count() -> None:
    async def fail_once(context: StepContext) -> None:
        if not attempts:
            attempts.append(context)
            await _lack_a_part(context)
            raise failure()
        context.put(ANSWER, "two")

    attempts: list[StepContext] = []
    step = Step(name="answer", run=fail_once, inputs=(QUESTION,), outputs=(ANSWER,), max_retries=1)

    outcome = run_in_virtual_time(play(make_graph(step)))

    assert (outcome.is_partial, outcome.remarks) == (False, ())


async def _read_other(context: StepContext) -> None:
    context[slot("other")]


async def _write_other(context: StepContext) -> None:
    context.put(slot("other"), "x")


async def _write_a_number(context: StepContext) -> None:
    context.put(Slot("answer", int), 3)
    context.put(ANSWER, 3)  # type: ignore[arg-type]  # the fault under test


async def _write_nothing(_context: StepContext) -> None: ...


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (_read_other, "reads other, which is not among its inputs: question"),
        (_write_other, "writes other, which is not among its outputs: answer"),
        (_write_a_number, "The slot answer .str. cannot hold int: '3'"),
        (_write_nothing, "ended without writing answer"),
    ],
)
def test_a_step_that_does_not_keep_to_what_it_declared_fails(
    run: Callable[[StepContext], object], words: str
) -> None:
    step = Step(name="answer", run=run, inputs=(QUESTION,), outputs=(ANSWER,))  # type: ignore[arg-type]  # async functions

    with pytest.raises(WorkflowError, match=words):
        run_in_virtual_time(play(make_graph(step)))


def test_only_the_answering_step_may_speak() -> None:
    graph = make_graph(make_step("look", script=Script(words=["Hm"])), make_step("answer", "look"))

    with pytest.raises(WorkflowError, match="Step look says something"):
        run_in_virtual_time(play(graph))


def test_a_run_without_its_input_is_refused() -> None:
    async def run() -> None:
        await run_graph(
            make_graph(make_step("answer")), Values(), tell=Listener().tell, clock=lambda: 0.0
        )

    with pytest.raises(WorkflowError, match="lacks its input question"):
        run_in_virtual_time(run())


def test_what_begins_the_answer_stands_whatever_becomes_of_the_step() -> None:
    fails, listener = Script(failures=[failure()], words=["Hel"]), Listener()
    begin = make_step("begin", script=fails, is_optional=True, begins_answer=True)
    end = make_step("answer", optional_inputs="begin", script=Script(words=["lo"]))

    outcome = run_in_virtual_time(play(make_graph(begin, end), listener))

    assert [one.text for one in listener.named(AnswerPiece)] == ["Hel", "lo"]
    assert (outcome.values[ANSWER], outcome.is_partial) == ("answer(q,None)", True)
