"""The series of what the system knows of itself: mood, stage, and feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from mm_orch.core.mind_events import FeedbackTaken, MindMoved

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mm_orch.core.mind_events import MindEvent

_RATINGS = ("good", "bad", "neutral")


class MindSeries:
    """Every series; made with the first fact, so that a server that knows nothing states none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: _Made | None = None

    def observe(self, event: MindEvent) -> None:
        """Take one fact."""
        made = self._made = self._made or _Made(self._registry)
        match event:
            case MindMoved():
                made.valence.set(event.valence)
                made.arousal.set(event.arousal)
                made.stage.set(event.stage)
            case FeedbackTaken(score=score):
                rating = "good" if score > 0 else "bad" if score < 0 else "neutral"
                made.feedback.labels(rating).inc()


class _Made:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.valence = Gauge(
            "mood_valence", "-1 after failures to 1 after successes.", registry=registry
        )
        self.arousal = Gauge(
            "mood_arousal", "-1 while all is routine to 1 in trouble.", registry=registry
        )
        self.stage = Gauge(
            "development_stage", "The stage that measured success has led to.", registry=registry
        )
        self.feedback = Counter(
            "feedback_total",
            "Answers that callers have rated, by what they thought.",
            ("rating",),
            registry=registry,
        )
        for rating in _RATINGS:
            self.feedback.labels(rating)
