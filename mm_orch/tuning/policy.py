"""Decides what to change, one window after another: a state machine without I/O or clock.

window -> has the load changed? -> what was tried there cannot be judged: back
       -> p95 over its target?  -> back, or a step down at once
       -> a trial under way     -> keep, roll back, or watch on
       -> a level that returns  -> what worked there
       -> a full house too slow -> a smaller queue, or smaller batches
       -> something to gain     -> try the likeliest step that does not rest
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mm_orch.tuning.backoff import Backoff
from mm_orch.tuning.decisions import Decision, DecisionKind
from mm_orch.tuning.guard import Guard
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, MAX_FACTOR, describe_change
from mm_orch.tuning.leap import find_way, is_safe_leap
from mm_orch.tuning.load import Load
from mm_orch.tuning.moves import Move, find_moves
from mm_orch.tuning.settling import SettledWindows, count_draining, count_settling
from mm_orch.tuning.trial import Trial, Verdict, decide, decide_guard, decide_rest

if TYPE_CHECKING:
    from mm_orch.tuning.guard import GuardStep
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.load import LoadLevel
    from mm_orch.tuning.memory import TuningMemory
    from mm_orch.tuning.objective import Objective
    from mm_orch.tuning.readings import Reading

MIN_WINDOWS = 3
"""Fewer windows before a change say nothing of their own noise."""
MAX_WINDOWS = 8
_NO_LOAD = Load(0.0, 0.0)


class TuningPolicy:
    """The decisions; its caller puts them in force before the next window begins.

    Args:
        objective: what is to be gained.
        memory: what worked at which load; it is added to.
        max_windows: most windows before and after a change that are compared.
    """

    def __init__(
        self, objective: Objective, memory: TuningMemory, *, max_windows: int = MAX_WINDOWS
    ) -> None:
        self._objective = objective
        self._memory = memory
        self._guard = None if objective.target_s is None else Guard(objective.target_s)
        self._load = _NO_LOAD
        self._backoffs: dict[LoadLevel, Backoff] = {}
        self._refused: set[str] = set()
        self._now = 0
        self._expected: dict[str, int] | None = None
        self._trial: Trial | None = None
        self._windows = SettledWindows(max(MIN_WINDOWS, max_windows))
        self._has_met = False
        self._is_new_level = False
        self._is_resting = False
        # The batch size from which a climb has gained nothing.
        self._stumbled_at: int | None = None

    def take(
        self, reading: Reading, in_force: Setting, *, tunable: frozenset[str], min_batch_size: int
    ) -> tuple[Decision, ...]:
        """Return what to decide after this window; at most one of them changes anything.

        Args:
            reading: the window.
            in_force: values by key.
            tunable: keys that may be changed.
            min_batch_size: what an idle engine waits for, and the least batch.
        """
        self._now += 1
        if not reading.has_traffic:
            return ()
        setting = {key: value for key, value in in_force.items() if key in KNOBS}
        self._notice_other_hands(setting, tunable)
        if self._guard is not None:
            self._guard.take(reading)
        if decision := self._follow_load(Load.of(reading)):
            return (decision,)
        if self._objective.is_met(reading):
            self._has_met = True
        keys = tunable - self._refused
        if self._trial is not None:
            return self._watch(self._trial, reading, setting, keys, min_batch_size)
        # Where all that came was served, throughput says nothing of the setting.
        is_settled = self._windows.take(
            reading, is_telling=self._objective.has_something_to_gain(reading)
        )
        if recalled := self._recall(reading, setting, keys, min_batch_size):
            return (recalled,)
        return self._protect(
            reading, setting, keys, min_batch_size, is_settled=is_settled
        ) or self._improve(reading, setting, keys, min_batch_size)

    def compare_at_most(self, num_windows: int) -> None:
        """From now on compare at most so many windows before a change with as many after it."""
        self._windows.keep_at_most(max(MIN_WINDOWS, num_windows))

    @property
    def max_windows(self) -> int:
        """Most windows before and after a change that are compared."""
        return self._windows.max_windows

    @property
    def on_trial(self) -> Setting:
        """What is being tried, by key, each with the value to go back to."""
        return {} if self._trial is None else self._trial.old

    @property
    def left_alone(self) -> frozenset[str]:
        """Keys whose change was refused."""
        return frozenset(self._refused)

    def refuse(self, decision: Decision) -> None:
        """Take back a decision that cannot be put in force; its options are left alone."""
        if decision.kind is DecisionKind.RECALL:
            self._memory.forget(self._level)
        else:
            self._refused.update(decision.new)
        self.give_up()

    def give_up(self) -> None:
        """Take back a decision that could not be put in force now; it may be made again."""
        self._trial = None
        self._expected = None

    @property
    def _level(self) -> LoadLevel:
        if self._trial is not None:
            return self._trial.level
        return self._load.level

    @property
    def _backoff(self) -> Backoff:
        return self._backoffs.setdefault(self._level, Backoff())

    def _notice_other_hands(self, setting: dict[str, int], tunable: frozenset[str]) -> None:
        is_changed = self._expected is not None and setting != self._expected
        if is_changed or (self._trial is not None and not self._trial.new.keys() <= tunable):
            # Whoever changed it, or switched its tuning off, meant it: nothing is put back over it.
            self._trial = None
            self._windows.start_over(1)
        self._expected = setting

    def _follow_load(self, load: Load) -> Decision | None:
        if load.is_same(self._load):
            return None
        is_lighter = load.rate < self._load.rate
        before, self._load = self._load, load
        self._is_resting = False
        trial = self._trial
        if trial is not None and (is_lighter or load.is_same(trial.load)):
            # Less to do hurts nobody; what is tried is judged when its load is back.
            return None
        self._is_new_level = True
        self._windows.turn_to(load, before)
        if trial is None:
            return None
        return self._roll_back(trial, "the load has grown, so nothing can be told")

    def _watch(
        self,
        trial: Trial,
        reading: Reading,
        setting: Setting,
        keys: frozenset[str],
        min_batch_size: int,
    ) -> tuple[Decision, ...]:
        if self._has_met and self._objective.is_over(reading) and not trial.was_over:
            reason = f"p95 was {reading.latency_p95_s:.1f} s, over the target"
            return (self._fail(trial, reason),)
        trial.watch(reading, self._objective)
        verdict, reason = trial.judge(self._objective, self.max_windows)
        match verdict:
            case Verdict.WATCH:
                if trial.is_quick and len(trial.watched) == 1 and trial.move is not None:
                    return self._climb(trial, trial.move, reading, setting, keys, min_batch_size)
                return ()
            case Verdict.ROLL_BACK:
                return (self._fail(trial, reason),)
            case Verdict.KEEP:
                kept = self._keep(trial, setting, reason)
                return (kept, *self._improve(reading, setting, keys, min_batch_size))

    def _climb(
        self,
        trial: Trial,
        move: Move,
        reading: Reading,
        setting: Setting,
        keys: frozenset[str],
        min_batch_size: int,
    ) -> tuple[Decision, ...]:
        """Go on with a leap that has not gained enough; else watch it, or take all of it back."""
        value = self._find_value(move, setting, keys, min_batch_size)
        if value is None or not self._may_leap(move, value, reading, setting):
            if len(trial.baseline) >= MIN_WINDOWS:
                return ()
            self._stumbled_at = trial.old[BATCH_SIZE]
            return (self._roll_back(trial, "one window after the other shows no great gain"),)
        trial.new = {BATCH_SIZE: value}
        trial.watched.clear()
        self._expect(trial.new)
        old = {BATCH_SIZE: setting[BATCH_SIZE]}
        reason = f"on from there: {describe_change(BATCH_SIZE, old[BATCH_SIZE], value)}"
        return (decide(DecisionKind.TRY, trial, old, trial.new, reason),)

    def _may_leap(self, move: Move, value: int, reading: Reading, setting: Setting) -> bool:
        return setting.get(BATCH_SIZE) != self._stumbled_at and is_safe_leap(
            move, value, reading, setting, self._guard
        )

    def _find_way(
        self, move: Move, value: int, reading: Reading, setting: Setting, keys: frozenset[str]
    ) -> GuardStep | None:
        if self._guard is None or setting.get(BATCH_SIZE) == self._stumbled_at:
            return None
        return find_way(move, value, reading, setting, self._guard, keys)

    def _find_room(
        self, move: Move, value: int, setting: Setting, keys: frozenset[str]
    ) -> GuardStep | None:
        if self._guard is None or (move.key, move.direction) != (BATCH_SIZE, "up"):
            return None
        return self._guard.find_room({**setting, move.key: value}, keys)

    def _protect(
        self,
        reading: Reading,
        setting: Setting,
        keys: frozenset[str],
        min_batch_size: int,
        *,
        is_settled: bool,
    ) -> tuple[Decision, ...]:
        """Return a step that keeps the target, where one is needed."""
        if self._guard is None:
            return ()
        if setting.get(BATCH_SIZE, 0) // MAX_FACTOR < min_batch_size:
            # The least batch is what an idle engine waits for.
            keys -= {BATCH_SIZE}
        step, is_forecast = self._guard.find_step(setting, keys, min_batch_size), True
        is_urgent = self._has_met and self._objective.is_over(reading) and is_settled
        if step is None and is_urgent:
            step, is_forecast = self._guard.find_emergency(reading, setting, keys), False
        if step is None:
            return ()
        if not is_forecast:
            # Forecasts hold for the way back as well; this has to be remembered.
            for key in step.new:
                self._backoff.fail((key, "up"), self._now)
        return (self._take_step(step, reading, setting),)

    def _improve(
        self, reading: Reading, setting: Setting, keys: frozenset[str], min_batch_size: int
    ) -> tuple[Decision, ...]:
        if not self._objective.has_something_to_gain(reading):
            return ()
        known = self._windows.readings
        is_ready = not self._windows.is_settling and len(known) >= MIN_WINDOWS
        is_over = self._objective.is_over(reading)
        for move in find_moves(reading, setting, min_batch_size=min_batch_size, is_over=is_over):
            value = self._find_value(move, setting, keys, min_batch_size)
            if value is None:
                continue
            if self._may_leap(move, value, reading, setting):
                # Watched on with care where there is enough to compare it with.
                quick = known if is_ready else (reading,)
                return (self._try(move, value, setting, quick, is_over=is_over),)
            way = self._find_way(move, value, reading, setting, keys)
            if way is None and is_ready:
                way = self._find_room(move, value, setting, keys)
            if way is not None:
                return (self._take_step(way, reading, setting),)
            return (self._try(move, value, setting, is_over=is_over),) if is_ready else ()
        return self._rest(setting) if is_ready else ()

    def _find_value(
        self, move: Move, setting: Setting, keys: frozenset[str], min_batch_size: int
    ) -> int | None:
        """Return where the move leads, or None where it may not or should not be made."""
        if move.key not in keys or move.key not in setting:
            return None
        if self._backoff.is_resting(move.identity, self._now):
            return None
        value = move.find_value(setting[move.key])
        if value is None or (move.key == BATCH_SIZE and value < min_batch_size):
            return None
        if self._guard is None or move.direction == "down":
            return value
        return self._guard.limit(move.key, value, setting, keys)

    def _try(
        self,
        move: Move,
        value: int,
        setting: Setting,
        quick: tuple[Reading, ...] = (),
        *,
        is_over: bool,
    ) -> Decision:
        """Begin a trial; a quick one is compared with these windows alone, and at once."""
        old, new = {move.key: setting[move.key]}, {move.key: value}
        baseline = quick or self._windows.readings
        self._is_resting = False
        return self._start(
            Trial(
                move=move,
                old=old,
                new=new,
                baseline=baseline,
                num_settling=0 if quick else count_settling(baseline[-1]),
                was_over=is_over,
                load=Load.of_all(baseline),
                level=self._level,
                is_quick=bool(quick),
            ),
            f"{move.reason}: {describe_change(move.key, old[move.key], value)}",
        )

    def _recall(
        self, reading: Reading, setting: Setting, keys: frozenset[str], min_batch_size: int
    ) -> Decision | None:
        if not self._is_new_level or not self._objective.has_something_to_gain(reading):
            return None
        self._is_new_level = False
        new = self._memory.find_change(self._level, setting, keys, min_batch_size)
        if not new:
            return None
        return self._start(
            Trial(
                move=None,
                old={key: setting[key] for key in new},
                new=new,
                baseline=(reading,),
                num_settling=count_settling(reading),
                was_over=self._objective.is_over(reading),
                load=Load.of(reading),
                level=self._level,
            ),
            f"this worked before at {self._level}",
        )

    def _start(self, trial: Trial, rationale: str) -> Decision:
        self._trial = trial
        self._expect(trial.new)
        kind = DecisionKind.RECALL if trial.move is None else DecisionKind.TRY
        return decide(kind, trial, trial.old, trial.new, rationale)

    def _keep(self, trial: Trial, setting: Setting, reason: str) -> Decision:
        if trial.move is not None:
            self._backoff.succeed(trial.move.identity, trial.move.opposite, self._now)
        self._memory.remember(self._level, setting)
        self._trial = None
        self._windows.start_over(0, trial.watched)
        decision = decide(DecisionKind.KEEP, trial, trial.old, trial.new, reason)
        return replace(decision, direction="none")

    def _fail(self, trial: Trial, reason: str) -> Decision:
        if trial.move is None:
            self._memory.forget(self._level)
            return self._roll_back(trial, reason)
        rest = self._backoff.fail(trial.move.identity, self._now)
        return self._roll_back(trial, f"{reason}; not tried again for {rest} windows")

    def _roll_back(self, trial: Trial, reason: str) -> Decision:
        self._trial = None
        self._expect(trial.old)
        # The setting of these windows is in force again.
        known = trial.baseline if trial.move is not None and not self._is_new_level else ()
        self._windows.start_over(count_settling(trial.baseline[-1]), known)
        return decide(DecisionKind.ROLL_BACK, trial, trial.new, trial.old, reason)

    def _take_step(self, step: GuardStep, reading: Reading, setting: Setting) -> Decision:
        old, new = {key: setting[key] for key in step.new}, step.new
        self._expect(new)
        self._windows.start_over(count_draining(reading, new))
        return decide_guard(step, old, reading)

    def _rest(self, setting: Setting) -> tuple[Decision, ...]:
        """Note once that nothing is left to try here for now."""
        if self._is_resting:
            return ()
        self._is_resting = True
        self._memory.remember(self._level, setting)
        return (decide_rest(self._level, self._windows.readings),)

    def _expect(self, new: Setting) -> None:
        self._expected = {**(self._expected or {}), **new}
