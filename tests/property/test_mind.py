"""Mood, stages and goals, whatever happens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.consciousness.goals import Candidate, Goals, score
from mm_orch.consciousness.mood import (
    Mood,
    after_feedback,
    after_outcome,
    decay,
    find_temperature_offset,
)
from mm_orch.consciousness.outcome_statistics import summarise
from mm_orch.consciousness.stages import Development, StageRules, after_run, is_allowed
from tests.unit.consciousness.scene import outcome

SIGNED = st.floats(-1, 1)
SHARES = st.floats(0, 1)
TIMES = st.floats(0, 1e9)
HALF_LIVES = st.floats(1e-3, 1e9)
# Seconds since the event before, and a success, a failure, or what somebody thought.
EVENTS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans() | SIGNED), max_size=50)
CANDIDATES = st.builds(
    Candidate,
    name=st.just("one"),
    expected_quality=SHARES,
    expected_latency_s=TIMES,
    expected_cost=TIMES,
)
GOALS = st.builds(Goals, quality=SHARES, latency=SHARES, cost=st.floats(0.01, 1))
NAMES = ("a", "b", "c", "d")


def live(events: list[tuple[float, bool | float]], half_life_s: float) -> Mood:
    mood, now_s = Mood(), 1e6
    for wait_s, event in events:
        now_s += wait_s
        if isinstance(event, bool):
            mood = after_outcome(mood, is_success=event, now_s=now_s, half_life_s=half_life_s)
        else:
            mood = after_feedback(mood, event, now_s=now_s, half_life_s=half_life_s)
    return mood


@given(EVENTS, HALF_LIVES)
def test_a_mood_stays_in_its_bounds(
    events: list[tuple[float, bool | float]], half_life_s: float
) -> None:
    mood = live(events, half_life_s)

    assert -1 <= mood.valence <= 1
    assert -1 <= mood.arousal <= 1
    assert abs(find_temperature_offset(mood, 0.1)) <= 0.1


@given(EVENTS, HALF_LIVES)
def test_the_same_events_make_the_same_mood(
    events: list[tuple[float, bool | float]], half_life_s: float
) -> None:
    assert live(events, half_life_s) == live(events, half_life_s)


@given(SIGNED, SIGNED, TIMES, HALF_LIVES)
def test_a_mood_only_fades_and_in_the_end_is_neutral(
    valence: float, arousal: float, wait_s: float, half_life_s: float
) -> None:
    mood = Mood(valence=valence, arousal=arousal)
    later = decay(mood, wait_s, half_life_s)
    at_last = decay(mood, 60 * half_life_s, half_life_s)

    assert abs(later.valence) <= abs(valence)
    assert abs(later.arousal) <= abs(arousal)
    assert later.valence * valence >= 0
    assert (abs(at_last.valence) < 1e-15, abs(at_last.arousal) < 1e-15) == (True, True)


@given(SIGNED, TIMES, TIMES, st.floats(1, 1e6))
def test_fading_in_two_parts_is_fading_at_once(
    valence: float, first_s: float, second_s: float, half_life_s: float
) -> None:
    mood = Mood(valence=valence)
    end_s = first_s + second_s
    parts = decay(decay(mood, first_s, half_life_s), end_s, half_life_s)

    assert abs(parts.valence - decay(mood, end_s, half_life_s).valence) < 1e-9


@given(
    st.lists(st.booleans(), max_size=200),
    st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=4),
    st.integers(1, 20),
    SHARES,
)
def test_a_stage_never_falls_and_what_is_allowed_stays_so(
    successes: list[bool], stages: list[set[str]], min_successes: int, min_ratio: float
) -> None:
    rules = StageRules(
        workflows_by_stage=tuple(map(tuple, stages)),
        min_successes=min_successes,
        min_success_ratio=min_ratio,
    )
    seen = [Development()]
    for is_success in successes:
        seen.append(after_run(seen[-1], is_success=is_success, rules=rules))

    for before, after in pairwise(seen):
        assert before.stage <= after.stage <= before.stage + 1
        assert after.stage <= rules.last
        assert 0 <= after.num_successes <= after.num_runs
        for name in NAMES:
            assert is_allowed(name, after.stage, rules) >= is_allowed(name, before.stage, rules)


@given(GOALS, CANDIDATES, CANDIDATES)
def test_a_candidate_that_is_no_worse_in_anything_scores_no_less(
    goals: Goals, first: Candidate, second: Candidate
) -> None:
    better = Candidate(
        name="better",
        expected_quality=max(first.expected_quality, second.expected_quality),
        expected_latency_s=min(first.expected_latency_s, second.expected_latency_s),
        expected_cost=min(first.expected_cost, second.expected_cost),
    )

    for worse in (first, second):
        assert 0 <= score(worse, goals) <= score(better, goals) + 1e-12
    assert score(better, goals) <= 1 + 1e-12


@given(st.lists(st.tuples(TIMES, st.booleans(), st.none() | SIGNED), max_size=30), HALF_LIVES)
def test_what_outcomes_say_is_within_what_they_were(
    seen: list[tuple[float, bool, float | None]], half_life_s: float
) -> None:
    outcomes = [
        outcome(at_s=at_s, is_success=is_success, feedback=feedback)
        for at_s, is_success, feedback in seen
    ]

    told = summarise(outcomes, key=lambda one: one.model, now_s=1e9, half_life_s=half_life_s)

    assert bool(told) is bool(seen)
    for one in told.values():
        assert one.num_outcomes == len(seen)
        assert 0 <= one.weight <= len(seen)
        assert 0 <= one.success_ratio <= 1 + 1e-9
        assert one.feedback is None or -1 - 1e-9 <= one.feedback <= 1 + 1e-9
