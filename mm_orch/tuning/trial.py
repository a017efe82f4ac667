"""One change under observation, and what its windows say of it."""

from __future__ import annotations

import enum
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.tuning.decisions import Decision, DecisionKind, Figures, name_change
from mm_orch.tuning.evidence import Comparison, Effect, compare
from mm_orch.tuning.knobs import describe_change
from mm_orch.tuning.load import Load, LoadLevel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.tuning.guard import GuardStep
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.moves import Move
    from mm_orch.tuning.objective import Objective
    from mm_orch.tuning.readings import Reading

_MIN_WATCHED = 2
# A chance dip at the beginning is no reason to give up.
_MIN_RULED_OUT = 4
_PROMISING = 0.02
# More than one window strays by.
_LEAP_GAIN = 0.2
# Load that comes and goes is waited for.
_MAX_PASSED_OVER = 24


class Verdict(enum.Enum):
    """What becomes of a trial."""

    KEEP = "keep"
    ROLL_BACK = "roll back"
    WATCH = "watch"


@dataclass(slots=True, kw_only=True)
class Trial:
    """A change that is being watched.

    Attributes:
        move: what is tried; None where a remembered setting is.
        old: values of what changed, to go back to; ``new`` are those that are tried.
        baseline: windows before it.
        num_settling: windows still to come that hold requests from before.
        was_over: whether p95 was over its target before.
        load: for which it is tried.
        level: where what comes of it is remembered.
        is_quick: one window that is far better is enough; see tuning.leap.
        watched: windows that count.
        num_passed_over: windows that could not tell; ``num_settled`` held requests from before.
    """

    move: Move | None
    old: Setting
    new: Setting
    baseline: tuple[Reading, ...]
    num_settling: int
    was_over: bool
    load: Load
    level: LoadLevel
    is_quick: bool = False
    watched: list[Reading] = field(default_factory=list)
    num_passed_over: int = 0
    num_settled: int = 0

    def watch(self, reading: Reading, objective: Objective) -> None:
        """Take a window in."""
        if self.num_settling:
            self.num_settling -= 1
            self.num_settled += 1
            return
        usual = statistics.fmean(one.tokens_per_s for one in self.baseline)
        # Where all that came was served, there was only less to do.
        is_idle = not objective.has_something_to_gain(reading) and reading.tokens_per_s < usual
        if is_idle or not self.load.is_same(Load.of(reading)):
            self.num_passed_over += 1
        else:
            self.watched.append(reading)

    def judge(self, objective: Objective, max_windows: int) -> tuple[Verdict, str]:
        """Return what becomes of it, and why."""
        if self.num_passed_over > _MAX_PASSED_OVER:
            return Verdict.ROLL_BACK, "the load went away before anything could be told"
        if len(self.watched) < _MIN_WATCHED:
            return self._judge_early()
        found = compare(
            [objective.score(one) for one in self.baseline],
            [objective.score(one) for one in self.watched],
        )
        change = f"{found.change_ratio:+.0%} over {len(self.watched)} windows"
        num_between = self.num_settled + self.num_passed_over
        if harm := objective.find_harm(self.baseline, self.watched, num_between=num_between):
            return Verdict.ROLL_BACK, harm
        match found.effect:
            case Effect.BETTER:
                return Verdict.KEEP, f"it helps: {change}, more than noise explains"
            case Effect.WORSE:
                return Verdict.ROLL_BACK, f"it does harm: {change}"
            case Effect.UNCLEAR | Effect.NONE:
                return self._judge_unclear(found, max_windows, change)

    def _judge_early(self) -> tuple[Verdict, str]:
        """Judge a quick step by throughput alone: latencies still tell of requests before it."""
        if not (self.is_quick and self.watched):
            return Verdict.WATCH, ""
        before, after = self.baseline[-1].tokens_per_s, self.watched[0].tokens_per_s
        if after < (1 + _LEAP_GAIN) * before:
            return Verdict.WATCH, ""
        change = f"{after / before - 1:+.0%}" if before else "the first tokens"
        return Verdict.KEEP, f"it helps: {change} in one window, more than chance"

    def _judge_unclear(
        self, found: Comparison, max_windows: int, change: str
    ) -> tuple[Verdict, str]:
        num_needed = _MIN_RULED_OUT if found.effect is Effect.NONE else max_windows
        if found.change_ratio > _PROMISING:
            # So small an effect takes more windows to be told from noise.
            num_needed = 2 * max_windows
        if len(self.watched) < num_needed:
            return Verdict.WATCH, ""
        if self.move is None:
            return Verdict.KEEP, f"no worse than before: {change}"
        return Verdict.ROLL_BACK, f"no help to be told from noise: {change}"


def decide(
    kind: DecisionKind, trial: Trial, old: Setting, new: Setting, rationale: str
) -> Decision:
    """Return a decision on a trial, with what was seen before and after."""
    parameter, direction = name_change(old, new)
    return Decision(
        kind=kind,
        parameter=parameter,
        direction=direction,
        rationale=rationale,
        old=old,
        new=new,
        before=summarise(trial.baseline),
        after=summarise(trial.watched),
    )


def decide_guard(step: GuardStep, old: Setting, reading: Reading) -> Decision:
    """Return the decision to take a step of the guard's, with the window that asked for it."""
    parameter, direction = name_change(old, step.new)
    changes = ", ".join(describe_change(key, old[key], value) for key, value in step.new.items())
    return Decision(
        kind=DecisionKind.GUARD,
        parameter=parameter,
        direction=direction,
        rationale=f"{step.reason}: {changes}",
        old=old,
        new=step.new,
        before=summarise([reading]),
    )


def decide_rest(level: LoadLevel, readings: Sequence[Reading]) -> Decision:
    """Return the decision to try nothing more at this level, with the windows that are known."""
    return Decision(
        kind=DecisionKind.REST,
        parameter="none",
        direction="none",
        rationale=f"nothing more is known to help at {level}; resting",
        before=summarise(readings),
    )


def summarise(readings: Sequence[Reading]) -> Figures | None:
    """Return the means of some windows, or None of none."""
    if not readings:
        return None
    return Figures(
        num_windows=len(readings),
        tokens_per_s=statistics.fmean(one.tokens_per_s for one in readings),
        latency_p95_s=_mean_known([one.latency_p95_s for one in readings]),
        ttft_p95_s=_mean_known([one.ttft_p95_s for one in readings]),
        num_waiting=statistics.fmean(one.num_waiting for one in readings),
        num_rejected=statistics.fmean(one.num_rejected for one in readings),
        step_s=_mean_known([one.step_s for one in readings]),
        cache_hit_ratio=_mean_known([one.cache_hit_ratio for one in readings]),
    )


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
