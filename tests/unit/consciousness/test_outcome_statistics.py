"""What past outcomes say."""

from __future__ import annotations

import pytest

from mm_orch.consciousness.memory import OutcomeMemory
from mm_orch.consciousness.outcome_statistics import summarise
from mm_orch.storage.outcomes import MAX_KEYS, MAX_OUTCOMES_OF_KEY
from tests.unit.consciousness.scene import outcome


def test_an_old_outcome_weighs_less() -> None:
    told = summarise(
        [outcome(at_s=0.0, is_success=False), outcome(at_s=100.0)],
        key=lambda one: one.workflow,
        now_s=100.0,
        half_life_s=100.0,
    )["chat_generate"]

    assert (told.num_outcomes, told.weight) == (2, 1.5)
    assert told.success_ratio == pytest.approx(1 / 1.5)


def test_latency_and_tokens_are_those_of_successes() -> None:
    told = summarise(
        [
            outcome(latency_s=2.0, num_tokens=10),
            outcome(latency_s=4.0, num_tokens=30),
            outcome(latency_s=99.0, num_tokens=0, is_success=False),
        ],
        key=lambda one: one.model,
        now_s=0.0,
        half_life_s=1.0,
    )["small"]

    assert (told.latency_s, told.num_tokens) == (3.0, 20.0)


def test_what_nobody_said_is_not_known() -> None:
    failed = [outcome(is_success=False)]
    rated = [outcome(confidence=0.5, feedback=-1.0), outcome()]

    of_failed = summarise(failed, key=lambda one: one.model, now_s=0, half_life_s=1)["small"]
    of_rated = summarise(rated, key=lambda one: one.model, now_s=0, half_life_s=1)["small"]

    assert (of_failed.success_ratio, of_failed.latency_s, of_failed.num_tokens) == (0.0, None, None)
    assert (of_failed.confidence, of_failed.feedback) == (None, None)
    assert (of_rated.confidence, of_rated.feedback) == (0.5, -1.0)


def test_outcomes_without_a_name_are_left_out_and_the_clock_may_run_back() -> None:
    told = summarise(
        [outcome(workflow=""), outcome(at_s=1e9)],
        key=lambda one: one.workflow,
        now_s=0.0,
        half_life_s=1.0,
    )

    assert [(name, one.weight) for name, one in told.items()] == [("chat_generate", 1.0)]


def test_what_is_too_old_to_weigh_anything_is_no_division_by_zero() -> None:
    told = summarise([outcome(at_s=0.0)], key=lambda one: one.model, now_s=1e9, half_life_s=1.0)[
        "small"
    ]

    assert (told.weight, told.success_ratio, told.latency_s) == (0.0, 0.0, None)


def make_memory(now_s: float = 0.0) -> OutcomeMemory:
    return OutcomeMemory(100.0, lambda: now_s)


def test_runs_tell_of_workflows_and_generations_of_models() -> None:
    memory = make_memory()
    memory.add(outcome(kind="run", workflow="rag_qa", model="small"))
    memory.add(outcome(kind="generation", workflow="rag_qa", model="tiny"))
    memory.add(outcome(kind="generation", workflow="", model="tiny"))

    assert {name: one.num_outcomes for name, one in memory.outcomes_by_workflow().items()} == {
        "rag_qa": 1
    }
    assert {name: one.num_outcomes for name, one in memory.outcomes_by_model().items()} == {
        "tiny": 2
    }


def test_of_each_key_the_last_ones_are_remembered() -> None:
    memory = make_memory()
    for number in range(MAX_OUTCOMES_OF_KEY + 1):
        memory.add(outcome(request_id=f"r{number}"))
    memory.add(outcome(model="other"))

    assert memory.find("alice", "r0") == []
    assert len(memory.find("alice", "r1")) == 2
    assert len(list(memory)) == MAX_OUTCOMES_OF_KEY + 1


def test_the_key_that_was_used_last_the_longest_ago_leaves() -> None:
    memory = make_memory()
    for number in range(MAX_KEYS):
        memory.add(outcome(workflow=f"w{number}"))
    memory.add(outcome(workflow="w0"))

    memory.add(outcome(workflow="one more"))

    workflows = {one.workflow for one in memory}
    assert len(workflows) == MAX_KEYS
    assert workflows & {"w0", "w1"} == {"w0"}


def test_a_request_is_found_as_long_as_anything_of_it_is_remembered() -> None:
    memory = make_memory()
    memory.add(outcome(kind="generation", request_id="r"))
    memory.add(outcome(request_id="r"))
    for number in range(MAX_OUTCOMES_OF_KEY):
        memory.add(outcome(request_id=f"r{number}"))
    half_gone = memory.find("alice", "r")
    for number in range(MAX_KEYS):
        memory.add(outcome(workflow=f"w{number}"))

    assert [one.kind for one in half_gone] == ["generation"]
    assert memory.find("alice", "r") == []


def test_feedback_belongs_to_the_caller_and_to_every_part_of_its_request() -> None:
    memory = make_memory()
    memory.add(outcome(kind="run"))
    memory.add(outcome(kind="generation"))
    memory.add(outcome(kind="run", caller="bob"))

    memory.rate("alice", "r1", -0.5)

    assert [one.feedback for one in memory.find("alice", "r1")] == [-0.5, -0.5]
    assert [one.feedback for one in memory.find("bob", "r1")] == [None]
    assert memory.outcomes_by_model()["small"].feedback == -0.5


def test_what_was_stored_comes_before_what_has_happened_since() -> None:
    memory = make_memory()
    memory.add(outcome(request_id="new"))

    memory.restore([outcome(request_id="old")])

    assert [one.request_id for one in memory] == ["old", "new"]


def test_what_is_told_is_soon_what_is_so() -> None:
    now_s = 0.0
    memory = OutcomeMemory(100.0, lambda: now_s)
    memory.add(outcome())
    assert memory.outcomes_by_workflow()["chat_generate"].num_outcomes == 1
    memory.add(outcome())

    now_s = 4.9
    early = memory.outcomes_by_workflow()["chat_generate"].num_outcomes
    now_s = 5.0
    late = memory.outcomes_by_workflow()["chat_generate"].num_outcomes

    assert (early, late) == (1, 2)
