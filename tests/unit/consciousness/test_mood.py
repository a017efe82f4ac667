"""What moves the mood, and what the mood changes."""

from __future__ import annotations

import pytest

from mm_orch.consciousness.mood import (
    Mood,
    advise,
    after_feedback,
    after_outcome,
    decay,
    find_instruction,
    find_temperature_offset,
)
from mm_orch.core.effects import NO_ADVICE

HALF_LIFE_S = 100.0


def after(outcome: str) -> Mood:
    """Return the mood after an outcome at the moment 0."""
    return after_outcome(
        Mood(), is_success=outcome == "success", now_s=0.0, half_life_s=HALF_LIFE_S
    )


def test_success_lifts_and_calms_and_failure_weighs_and_stirs() -> None:
    good, bad = after("success"), after("failure")

    assert (good.valence > 0, good.arousal < 0) == (True, True)
    assert (bad.valence < 0, bad.arousal > 0) == (True, True)
    assert abs(bad.valence) > abs(good.valence)


def test_half_of_a_mood_is_left_after_its_half_life() -> None:
    left = decay(Mood(valence=0.8, arousal=-0.4), HALF_LIFE_S, HALF_LIFE_S)

    assert (left.valence, left.arousal, left.at_s) == (0.4, -0.2, HALF_LIFE_S)


def test_a_clock_that_runs_back_changes_nothing() -> None:
    mood = Mood(valence=0.5, arousal=0.1, at_s=1000.0)

    assert decay(mood, 10.0, HALF_LIFE_S) == mood


@pytest.mark.parametrize(("score", "is_lifted"), [(1.0, True), (-1.0, False), (0.5, True)])
def test_feedback_moves_the_mood_towards_itself(score: float, *, is_lifted: bool) -> None:
    mood = after_feedback(Mood(), score, now_s=0.0, half_life_s=HALF_LIFE_S)

    assert (mood.valence > 0) is is_lifted
    assert mood.arousal > 0


def test_feedback_of_zero_takes_the_mood_back_towards_neutral() -> None:
    mood = after_feedback(Mood(valence=0.5), 0.0, now_s=0.0, half_life_s=HALF_LIFE_S)

    assert 0 < mood.valence < 0.5
    assert mood.arousal == 0.0


@pytest.mark.parametrize(
    ("mood", "begin"),
    [
        (Mood(), ""),
        (Mood(valence=0.29, arousal=0.29), ""),
        (Mood(valence=-0.3, arousal=0.9), "Answer carefully"),
        (Mood(valence=0.9, arousal=0.3), "Keep the answer short"),
        (Mood(valence=0.3), "Answer in a friendly tone"),
    ],
)
def test_only_a_marked_mood_is_told_to_the_model(mood: Mood, begin: str) -> None:
    instruction = find_instruction(mood)

    assert instruction.startswith(begin)
    assert bool(instruction) is bool(begin)


@pytest.mark.parametrize(
    ("valence", "offset"), [(1.0, 0.1), (-1.0, -0.1), (0.5, 0.05), (0.04, 0.0)]
)
def test_the_temperature_moves_within_its_bound(valence: float, offset: float) -> None:
    assert find_temperature_offset(Mood(valence=valence), 0.1) == offset


def test_what_is_set_is_told_with_its_reason() -> None:
    advice = advise(
        Mood(valence=-0.5, arousal=0.2),
        default_temperature=1.0,
        max_offset=0.1,
        has_instructions=False,
        has_temperature=False,
    )

    assert advice.temperature == 0.95
    assert [(one.what, one.value) for one in advice.effects] == [
        ("instruction", advice.instruction),
        ("temperature", 0.95),
    ]
    assert {one.reason for one in advice.effects} == {"valence -0.50, arousal 0.20"}


@pytest.mark.parametrize(
    ("has_instructions", "has_temperature", "kinds"),
    [
        (True, False, ["temperature"]),
        (False, True, ["instruction"]),
        (True, True, []),
    ],
)
def test_what_the_caller_has_set_stays(
    kinds: list[str], *, has_instructions: bool, has_temperature: bool
) -> None:
    advice = advise(
        Mood(valence=0.9),
        default_temperature=1.0,
        max_offset=0.1,
        has_instructions=has_instructions,
        has_temperature=has_temperature,
    )

    assert [one.what for one in advice.effects] == kinds
    assert (advice.instruction is None) is has_instructions
    assert (advice.temperature is None) is has_temperature


def test_a_neutral_mood_changes_nothing() -> None:
    advice = advise(
        Mood(),
        default_temperature=1.0,
        max_offset=0.1,
        has_instructions=False,
        has_temperature=False,
    )

    assert advice == NO_ADVICE


@pytest.mark.parametrize(("valence", "arousal"), [(1.01, 0), (0, -1.01), (float("nan"), 0)])
def test_a_mood_out_of_bounds_cannot_be_made(valence: float, arousal: float) -> None:
    with pytest.raises(ValueError, match="from -1 to 1"):
        Mood(valence=valence, arousal=arousal)
