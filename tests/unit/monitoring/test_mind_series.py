"""What is counted of the system's own state."""

from __future__ import annotations

from mm_orch.core.mind_events import FeedbackTaken, MindMoved
from mm_orch.monitoring.prometheus import PrometheusObserver
from tests.unit.monitoring.clock import StillClock
from tests.unit.monitoring.scripted_events import MODEL
from tests.unit.monitoring.test_prometheus import samples_of, value_of

NAMES = {"mood_valence", "mood_arousal", "development_stage", "feedback_total"}


def named(observer: PrometheusObserver) -> set[str]:
    return NAMES & {sample.name for sample in samples_of(observer)}


def test_a_server_that_knows_nothing_of_itself_states_nothing() -> None:
    assert named(PrometheusObserver([MODEL], clock=StillClock())) == set()


def test_mood_and_stage_are_those_of_the_last_move() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())

    observer.observe(MindMoved(valence=0.5, arousal=0.0, stage=0))
    observer.observe(MindMoved(valence=-0.25, arousal=0.125, stage=2))

    assert named(observer) == NAMES
    assert value_of(observer, "mood_valence") == -0.25
    assert value_of(observer, "mood_arousal") == 0.125
    assert value_of(observer, "development_stage") == 2


def test_feedback_counts_by_what_was_thought() -> None:
    observer = PrometheusObserver([MODEL], clock=StillClock())

    for score in (1.0, 0.1, -1.0):
        observer.observe(FeedbackTaken(score=score))

    for rating, count in (("good", 2), ("bad", 1), ("neutral", 0)):
        assert value_of(observer, "feedback_total", rating=rating) == count
