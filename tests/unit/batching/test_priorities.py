"""What a higher priority gets of the batcher, and what it leaves to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.priority import AGEING_S, MAX_PRIORITY, MIN_PRIORITY, rank_s
from mm_orch.optimization.engines.echo import EchoBackend
from tests.unit.batching.test_batcher import Clock, make, make_batcher

if TYPE_CHECKING:
    from mm_orch.batching.batcher import DynamicBatcher
    from mm_orch.batching.report import StepReport
    from mm_orch.optimization.engines.contract import Sequence

PRIORITIES = st.integers(MIN_PRIORITY, MAX_PRIORITY)
LONG = tuple(range(1, 41))


def ranked(name: str, priority: int, *, max_tokens: int = 40) -> Sequence:
    # No two begin alike, or one would wait for what the other computes.
    prompt = (200 + ord(name[0]), *LONG)
    sequence = make(name, max_tokens, prompt=prompt, ignore_eos=True)
    sequence.priority = priority
    return sequence


def told(report: StepReport) -> set[str]:
    return {chunk.sequence_id for chunk in report.chunks}


def run_to_end(batcher: DynamicBatcher) -> list[str]:
    ended = []
    while batcher.has_work:
        ended += [c.sequence_id for c in batcher.step().chunks if c.finish_reason is not None]
    return ended


def test_a_higher_priority_takes_a_slot_at_the_next_step_and_the_last_goes_on_later() -> None:
    batcher = make_batcher(EchoBackend(), max_batch_size=2, num_blocks=40)
    texts: dict[str, list[int]] = {"a": [], "b": [], "u": []}
    for name in "ab":
        batcher.add(ranked(name, 0))
    reports = [batcher.step() for _ in range(3)]
    batcher.add(ranked("u", 5))

    urgent = batcher.step()
    while batcher.has_work:
        reports.append(batcher.step())
    for report in [*reports, urgent]:
        for chunk in report.chunks:
            texts[chunk.sequence_id] += chunk.token_ids

    assert told(urgent) == {"u"}
    assert urgent.num_preempted == 1
    assert [one.sequence_id for one in urgent.started] == ["u"]
    # Nothing is said twice or left out.
    assert all(len(text) == 40 for text in texts.values())
    assert {len(set(text)) for text in texts.values()} == {40}
    assert sum(report.num_preempted for report in reports) == 0


def test_it_takes_memory_too_where_that_is_short() -> None:
    # Six blocks of 16: the two that run hold all of them.
    batcher = make_batcher(EchoBackend(), num_blocks=6)
    for name in "ab":
        batcher.add(ranked(name, 0, max_tokens=7))
    batcher.step()
    assert batcher.num_running == 2
    batcher.add(ranked("u", 1))

    assert told(batcher.step()) == {"u"}
    assert batcher.num_running == 2


@pytest.mark.parametrize("priority", [0, -1])
def test_no_other_priority_takes_anything_away(priority: int) -> None:
    batcher = make_batcher(EchoBackend(), max_batch_size=1)
    batcher.add(ranked("a", 0))
    batcher.step()
    # However long it has waited elsewhere: that gives it the next slot, not this one.
    batcher.add(ranked("b", priority), since_s=-100 * AGEING_S)

    assert told(batcher.step()) == {"a"}
    assert run_to_end(batcher) == ["a", "b"]


def test_its_prompt_comes_first_in_the_budget_and_the_others_lose_every_other_step() -> None:
    batcher = make_batcher(EchoBackend(), max_batch_tokens=20, is_adaptive=False)
    batcher.add(ranked("a", 0))
    while not told(batcher.step()):
        pass
    batcher.add(ranked("long", 0))
    batcher.step()
    batcher.add(ranked("u", 5))

    reports = [batcher.step() for _ in range(4)]

    # 41 tokens of prompt in pieces of 20: the second step is everybody's.
    assert [report.phase for report in reports[:3]] == ["prefill", "mixed", "prefill"]
    assert told(reports[0]) == set()
    assert told(reports[1]) == {"a"}
    assert told(reports[2]) == {"u"}
    assert {"a", "u"} <= told(reports[3])


def test_what_has_waited_long_enough_goes_before_a_higher_priority() -> None:
    clock = Clock()
    batcher = make_batcher(EchoBackend(), clock=clock, max_batch_size=1)
    batcher.add(ranked("a", 3))
    batcher.step()
    batcher.add(ranked("old", 0))
    clock.now_s = 2.9 * AGEING_S
    batcher.add(ranked("before", 3))
    clock.now_s = 3.1 * AGEING_S
    batcher.add(ranked("late", 3))

    assert run_to_end(batcher) == ["a", "before", "old", "late"]


@given(PRIORITIES, PRIORITIES, st.floats(0, 1e6), st.floats(0, 1e4))
def test_whoever_comes_late_enough_ranks_behind_whatever_its_priority(
    early: int, late: int, since_s: float, more_s: float
) -> None:
    worst_s = (MAX_PRIORITY - early) * AGEING_S
    assert rank_s(early, since_s) <= rank_s(late, since_s + worst_s + more_s)
    assert rank_s(early + 1, since_s) < rank_s(early, since_s)


@given(st.lists(st.tuples(PRIORITIES, st.integers(1, 12), st.integers(0, 3)), max_size=14))
def test_every_sequence_says_all_it_has_whoever_comes_after_it(
    arrivals: list[tuple[int, int, int]],
) -> None:
    batcher = make_batcher(EchoBackend(), max_batch_size=2, max_batch_tokens=16, num_blocks=9)
    wanted: dict[str, int] = {}
    said: dict[str, list[int]] = {}
    for number, (priority, max_tokens, num_steps) in enumerate(arrivals):
        name = f"{chr(65 + number)}"
        wanted[name] = max_tokens
        batcher.add(ranked(name, priority, max_tokens=max_tokens))
        for _ in range(num_steps):
            take(batcher.step(), said)
    for _ in range(2000):
        if batcher.has_work:
            take(batcher.step(), said)

    assert not batcher.has_work
    assert {name: len(tokens) for name, tokens in said.items()} == wanted


def take(report: StepReport, said: dict[str, list[int]]) -> None:
    assert not report.failed
    for chunk in report.chunks:
        said.setdefault(chunk.sequence_id, []).extend(chunk.token_ids)
