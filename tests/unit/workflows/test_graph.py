from __future__ import annotations

import pytest

from mm_orch.core.errors import GraphError
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from tests.unit.workflows.scripted_steps import ANSWER, QUESTION, make_graph, make_step

ANSWERING = make_step("answer")


def test_steps_that_fit_together_are_a_graph() -> None:
    graph = make_graph(
        make_step("search", is_optional=True),
        make_step("answer", "question", optional_inputs="search"),
        make_step("keep", "answer", "kept"),
        results="kept",
    )

    assert graph.find_predecessors() == {
        "search": frozenset(),
        "answer": {"search"},
        "keep": {"answer"},
    }


@pytest.mark.parametrize(
    ("steps", "results", "fault"),
    [
        ([], "", "it has no steps"),
        (
            [make_step("answer", "question facts")],
            "",
            "step answer reads facts, which no step writes and which is no input; known: answer,"
            " question",
        ),
        (
            [make_step("answer", "facts"), make_step("facts", "answer")],
            "",
            "steps wait for one another: ",
        ),
        ([make_step("answer", "answer")], "", "steps wait for one another: answer -> answer"),
        (
            [make_step("a", outputs="answer"), make_step("b", outputs="answer")],
            "",
            "the slot answer is written by step a and by step b; it has one writer",
        ),
        (
            [ANSWERING, make_step("again", "answer", "question")],
            "",
            "the slot question is written by the workflow's input and by step again",
        ),
        (
            [ANSWERING, make_step("lost", outputs="found more")],
            "",
            "step lost leads nowhere: no step reads what it writes (found, more), and it is no",
        ),
        ([ANSWERING], "sources", "the result sources is written by no step"),
        ([make_step("other")], "other", "the result answer is written by no step"),
        ([ANSWERING, make_step("answer", outputs="b")], "b", "2 steps are named answer"),
        ([make_step("An answer", outputs="answer")], "", "'An answer' is no name of a step"),
        (
            [make_step("answer", is_optional=True)],
            "",
            "step answer writes the answer, so it cannot be optional",
        ),
        (
            [make_step("facts", is_optional=True), make_step("answer", "facts")],
            "",
            "step answer needs facts, which the optional step facts writes",
        ),
        ([make_step("answer", max_retries=-1)], "", "max_retries -1; 0 or more are allowed"),
        ([make_step("answer", retry_wait_s=-1)], "", "retry_wait_s -1; 0 or more are allowed"),
        ([make_step("answer", deadline_s=0)], "", "deadline_s 0; it must be above 0"),
        (
            [make_step("answer", optional_inputs="question")],
            "",
            "step answer reads question 2 times",
        ),
    ],
)
def test_steps_that_do_not_fit_are_refused_with_the_reason(
    steps: list[Step], results: str, fault: str
) -> None:
    with pytest.raises(GraphError) as refused:
        make_graph(*steps, results=results)

    assert any(fault in one for one in refused.value.faults), refused.value.faults
    assert "The workflow tried cannot be run" in str(refused.value)


def test_a_slot_of_two_types_is_refused() -> None:
    async def run(_: object) -> None: ...

    step = Step(name="answer", run=run, inputs=(Slot("question", int),), outputs=(ANSWER,))

    with pytest.raises(GraphError, match="the slot question has several types: int, str"):
        Graph(name="tried", steps=(step,), inputs=(QUESTION,), answer=ANSWER)


def test_all_faults_are_told_together() -> None:
    with pytest.raises(GraphError) as refused:
        make_graph(make_step("answer", "a", deadline_s=-1), make_step("lost"))

    assert len(refused.value.faults) == 3
