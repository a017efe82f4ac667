"""What changes in the mind: mood, stage and memory, and what of it is still to be kept."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from mm_orch.consciousness import mood as moods
from mm_orch.consciousness.memory import OutcomeMemory
from mm_orch.consciousness.mood import Mood
from mm_orch.consciousness.stages import Development, after_run
from mm_orch.storage.outcomes import Changes, StoredMood, StoredStage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.consciousness.stages import StageRules
    from mm_orch.storage.outcomes import Outcome, Remembered

MAX_PENDING = 4096
"""Outcomes, and scores, that wait to be written; of more, the oldest are lost."""


class MindState:
    """Deterministic: the same outcomes and feedback at the same times make the same state.

    Implements keeping.Remembering.

    Args:
        rules: of development.
        mood_half_life_s: after it half of a mood is left.
        memory_half_life_s: an outcome this old weighs half.
        now: seconds since 1970.
        is_kept: somebody takes the changes.

    Attributes:
        memory: of outcomes.
        development: the stage that has been reached.
        has_changed: there is something to be kept.
        num_lost: outcomes and scores that were too many to wait until they could be.
    """

    def __init__(
        self,
        *,
        rules: StageRules,
        mood_half_life_s: float,
        memory_half_life_s: float,
        now: Callable[[], float],
        is_kept: bool,
    ) -> None:
        self.memory = OutcomeMemory(memory_half_life_s, now)
        self.development = Development()
        self.has_changed = asyncio.Event()
        self.num_lost = 0
        self._mood = Mood(at_s=now())
        self._is_calm = True
        self._rules = rules
        self._half_life_s = mood_half_life_s
        self._now = now
        self._is_kept = is_kept
        self._new: deque[Outcome] = deque(maxlen=MAX_PENDING)
        self._feedback: dict[tuple[str, str], float] = {}

    @property
    def mood(self) -> Mood:
        """What is left of it now."""
        return moods.decay(self._mood, self._now(), self._half_life_s)

    def note(self, outcome: Outcome) -> None:
        """Take how something ended."""
        self.memory.add(outcome)
        # An answer that no model was asked for proves nothing.
        is_telling = bool(outcome.model) or not outcome.is_success
        is_part_of_run = outcome.kind == "generation" and bool(outcome.workflow)
        if is_telling and not is_part_of_run:
            self._feel(
                moods.after_outcome(
                    self._mood,
                    is_success=outcome.is_success,
                    now_s=self._now(),
                    half_life_s=self._half_life_s,
                )
            )
        if is_telling and outcome.kind == "run":
            self.development = after_run(
                self.development, is_success=outcome.is_success, rules=self._rules
            )
        if self._is_kept:
            self.num_lost += len(self._new) == MAX_PENDING
            self._new.append(outcome)
            self.has_changed.set()

    def rate(self, caller: str, request_id: str, score: float) -> bool:
        """Take what a caller thought of its request; say whether such a request is known.

        The mood moves once for a request; a later score takes the place of the one before.
        """
        known = self.memory.find(caller, request_id)
        if not known:
            return False
        if all(one.feedback is None for one in known):
            self._feel(
                moods.after_feedback(
                    self._mood, score, now_s=self._now(), half_life_s=self._half_life_s
                )
            )
        self.memory.rate(caller, request_id, score)
        if self._is_kept:
            self._feedback[caller, request_id] = score
            self._bound_feedback()
            self.has_changed.set()
        return True

    def restore(self, remembered: Remembered) -> None:
        """See Remembering."""
        self.memory.restore(remembered.outcomes)
        if (mood := remembered.mood) is not None and self._is_calm:
            self._mood = Mood(valence=mood.valence, arousal=mood.arousal, at_s=mood.at_s)
        stored, own = remembered.stage, self.development
        if stored is None:
            return
        # There may be fewer stages now.
        stage = min(stored.number, self._rules.last)
        if stage > own.stage:
            own = Development(stage=stage)
        if stage == own.stage:
            self.development = Development(
                stage=stage,
                num_runs=own.num_runs + stored.num_runs,
                num_successes=own.num_successes + stored.num_successes,
            )

    def take_changes(self) -> Changes:
        """See Remembering."""
        mood, development = self._mood, self.development
        changes = Changes(
            mood=StoredMood(valence=mood.valence, arousal=mood.arousal, at_s=mood.at_s),
            stage=StoredStage(
                number=development.stage,
                num_runs=development.num_runs,
                num_successes=development.num_successes,
            ),
            outcomes=tuple(self._new),
            feedback=self._feedback,
        )
        self._new.clear()
        self._feedback = {}
        self.has_changed.clear()
        return changes

    def give_back(self, changes: Changes) -> None:
        """See Remembering."""
        outcomes = (*changes.outcomes, *self._new)
        self.num_lost += max(0, len(outcomes) - MAX_PENDING)
        self._new = deque(outcomes, maxlen=MAX_PENDING)
        self._feedback = {**changes.feedback, **self._feedback}
        self._bound_feedback()
        self.has_changed.set()

    def _bound_feedback(self) -> None:
        while len(self._feedback) > MAX_PENDING:
            del self._feedback[next(iter(self._feedback))]
            self.num_lost += 1

    def _feel(self, mood: Mood) -> None:
        self._mood = mood
        self._is_calm = False
