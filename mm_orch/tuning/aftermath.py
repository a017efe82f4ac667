"""What came of the guard's steps: they are taken and not tried, so somebody has to look back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mm_orch.tuning.settling import count_draining
from mm_orch.tuning.trial import summarise

if TYPE_CHECKING:
    from mm_orch.tuning.decisions import Decision
    from mm_orch.tuning.knobs import Setting
    from mm_orch.tuning.readings import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a step of the guard's.

    Attributes:
        step: as it was decided.
        told: the same with figures after it, and with words on them.
        is_kept: whether p95 kept its target; None where no request tells.
    """

    step: Decision
    told: Decision
    is_kept: bool | None


@dataclass(slots=True)
class _Followed:
    step: Decision
    num_settling: int


class Aftermath:
    """Follows the guard's last step until a window tells of it.

    That is the first one in which a request has ended and none is left from before the step. Where
    something else is changed earlier, it is the last window before that; where other hands have
    changed the option itself, there is none.

    Args:
        target_s: for p95.
    """

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s
        self._followed: _Followed | None = None

    def follow(self, step: Decision, reading: Reading) -> None:
        """Begin with a step that has been put in force after this window."""
        self._followed = _Followed(step, count_draining(reading, step.new))

    def take(self, reading: Reading, in_force: Setting, *, is_last: bool) -> Outcome | None:
        """Take a window in; return what it tells of the step that is followed, once for each.

        Args:
            reading: the window.
            in_force: values by key, at its end.
            is_last: something else is changed after it.
        """
        followed = self._followed
        if followed is None or not reading.has_traffic:
            return None
        step, is_settled = followed.step, not followed.num_settling
        followed.num_settling = max(0, followed.num_settling - 1)
        is_other = any(in_force.get(key) != value for key, value in step.new.items())
        is_telling = is_settled and reading.latency_p95_s is not None
        if not (is_other or is_telling or is_last):
            return None
        self._followed = None
        if is_other:
            words = f"{step.rationale}; others changed it before a window could tell"
            return Outcome(step=step, told=replace(step, rationale=words), is_kept=None)
        return self._tell(step, reading, is_settled=is_settled)

    def _tell(self, step: Decision, reading: Reading, *, is_settled: bool) -> Outcome:
        is_kept: bool | None = None
        words = "no request has ended since"
        if (p95_s := reading.latency_p95_s) is not None:
            is_kept = p95_s <= self._target_s
            words = f"since then p95 is {p95_s:.1f} s, {'within' if is_kept else 'over'} the target"
            words += "" if is_settled else ", with requests from before"
        told = replace(step, rationale=f"{step.rationale}; {words}", after=summarise([reading]))
        return Outcome(step=step, told=told, is_kept=is_kept)
