"""Two numbers that stand for how things went lately, and what they change in an answer."""

from __future__ import annotations

from dataclasses import dataclass

from mm_orch.core.effects import NO_ADVICE, Advice, Effect

# Of the way to the extreme, at each event. Answers fail seldom, so that one counts as much as four
# that succeed; people say seldom what they think, so that it counts most.
_SUCCESS_RATE = 0.05
_FAILURE_RATE = 0.2
_FEEDBACK_RATE = 0.3
_CALM_RATE = 0.02
_STIR_RATE = 0.2
# From here on a mood is told to the model.
_MARKED = 0.3
_CAREFUL = "Answer carefully, and say what you are not sure of."
_FRIENDLY = "Answer in a friendly tone."
_BRIEF = "Keep the answer short and plain."


@dataclass(frozen=True, slots=True, kw_only=True)
class Mood:
    """How things went lately; neutral is (0, 0).

    Attributes:
        valence: -1 (failures and bad feedback) to 1 (successes and good feedback).
        arousal: -1 (all is routine) to 1 (failures, or people who say what they think).
        at_s: when it was so, in seconds of any clock that does not run backwards for long.

    Raises:
        ValueError: a number is outside of -1 to 1.
    """

    valence: float = 0.0
    arousal: float = 0.0
    at_s: float = 0.0

    def __post_init__(self) -> None:
        # INVARIANT: whatever happens, both numbers stay in [-1, 1].
        for name in ("valence", "arousal"):
            value = getattr(self, name)
            if not -1.0 <= value <= 1.0:
                raise ValueError(f"The {name} is {value}; it is from -1 to 1.")


def decay(mood: Mood, now_s: float, half_life_s: float) -> Mood:
    """Return what is left of a mood: half after each half-life; all, where the clock ran back."""
    share = 0.5 ** (max(0.0, now_s - mood.at_s) / half_life_s)
    return Mood(
        valence=mood.valence * share, arousal=mood.arousal * share, at_s=max(now_s, mood.at_s)
    )


def after_outcome(mood: Mood, *, is_success: bool, now_s: float, half_life_s: float) -> Mood:
    """Return the mood after an answer, or one that failed."""
    before = decay(mood, now_s, half_life_s)
    if is_success:
        return _move(before, 1.0, _SUCCESS_RATE, -1.0, _CALM_RATE)
    return _move(before, -1.0, _FAILURE_RATE, 1.0, _STIR_RATE)


def after_feedback(mood: Mood, score: float, *, now_s: float, half_life_s: float) -> Mood:
    """Return the mood after what somebody thought of an answer, -1 to 1."""
    before = decay(mood, now_s, half_life_s)
    return _move(before, score, _FEEDBACK_RATE, 1.0, _STIR_RATE * abs(score))


def find_instruction(mood: Mood) -> str:
    """Return the sentence that a conversation begins with in this mood; empty for none."""
    if mood.valence <= -_MARKED:
        return _CAREFUL
    if mood.arousal >= _MARKED:
        return _BRIEF
    return _FRIENDLY if mood.valence >= _MARKED else ""


def find_temperature_offset(mood: Mood, max_offset: float) -> float:
    """Return what is added to the default temperature, at most ``max_offset`` either way.

    In hundredths, so that it does not change with every request.
    """
    return round(mood.valence * max_offset, 2)


def advise(
    mood: Mood,
    *,
    default_temperature: float,
    max_offset: float,
    has_instructions: bool,
    has_temperature: bool,
) -> Advice:
    """Return what the mood changes in an answer.

    Args:
        mood: of now.
        default_temperature: of calls that set none.
        max_offset: most that is added to it, or taken from it.
        has_instructions: the caller has given some, so that none is added.
        has_temperature: the caller has set one, so that it stays.
    """
    effects: list[Effect] = []
    reason = f"valence {mood.valence:.2f}, arousal {mood.arousal:.2f}"
    instruction = "" if has_instructions else find_instruction(mood)
    if instruction:
        effects.append(Effect(by="mood", what="instruction", value=instruction, reason=reason))
    offset = 0.0 if has_temperature else find_temperature_offset(mood, max_offset)
    temperature = None
    if offset:
        temperature = round(default_temperature + offset, 2)
        effects.append(Effect(by="mood", what="temperature", value=temperature, reason=reason))
    if not effects:
        return NO_ADVICE
    return Advice(instruction=instruction or None, temperature=temperature, effects=tuple(effects))


def _move(
    mood: Mood, valence: float, valence_rate: float, arousal: float, arousal_rate: float
) -> Mood:
    return Mood(
        valence=_approach(mood.valence, valence, valence_rate),
        arousal=_approach(mood.arousal, arousal, arousal_rate),
        at_s=mood.at_s,
    )


def _approach(value: float, target: float, rate: float) -> float:
    """Go a share of the way; of two numbers within [-1, 1] the result is within it too."""
    return min(1.0, max(-1.0, value + rate * (target - value)))
