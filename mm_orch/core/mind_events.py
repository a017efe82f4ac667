"""The facts that the system states of itself; see ``core.events``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MindMoved:
    """An outcome or feedback has moved the mood; ``stage`` is the one that is reached now."""

    valence: float
    arousal: float
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackTaken:
    """A caller has said what an answer was worth, -1 to 1."""

    score: float


MindEvent = MindMoved | FeedbackTaken
