"""Which workflows are allowed at which stage, and what measured success leads to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

EVERY_WORKFLOW = "*"
# Of the standard normal distribution: 95% in between.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRules:
    """The stages, and the rule that leads from each to the next.

    Attributes:
        workflows_by_stage: those that a stage allows beside those of the stages before it;
            EVERY_WORKFLOW allows all.
        min_successes: of runs at the present stage.
        min_success_ratio: what the share of successes is at least, with 97.5% confidence.
    """

    workflows_by_stage: tuple[tuple[str, ...], ...]
    min_successes: int
    min_success_ratio: float

    @property
    def last(self) -> int:
        """The number of the last stage; the first one is 0."""
        return len(self.workflows_by_stage) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Development:
    """The stage that has been reached, and what has been seen since."""

    stage: int = 0
    num_runs: int = 0
    num_successes: int = 0

    @property
    def lower_bound(self) -> float:
        """Of the share of successes; 0 before the first run."""
        return find_lower_bound(self.num_successes, self.num_runs)


def find_lower_bound(num_successes: int, num_runs: int) -> float:
    """Return the lower end of Wilson's 95% interval for a share (JASA 22, 1927); 0 of no runs."""
    if num_runs == 0:
        return 0.0
    share, z2 = num_successes / num_runs, _Z * _Z
    middle = share + z2 / (2 * num_runs)
    half = _Z * math.sqrt((share * (1 - share) + z2 / (4 * num_runs)) / num_runs)
    return max(0.0, (middle - half) / (1 + z2 / num_runs))


def is_allowed(workflow: str, stage: int, rules: StageRules) -> bool:
    """Whether a workflow is allowed at a stage, or at one before it."""
    allowed = {name for names in rules.workflows_by_stage[: stage + 1] for name in names}
    return bool({workflow, EVERY_WORKFLOW} & allowed)


def find_stage_of(workflow: str, rules: StageRules) -> int | None:
    """Return the first stage that allows a workflow; None where none does."""
    stages = range(len(rules.workflows_by_stage))
    return next((stage for stage in stages if is_allowed(workflow, stage, rules)), None)


def after_run(development: Development, *, is_success: bool, rules: StageRules) -> Development:
    """Return the development after a run that a model has answered; the stage never falls.

    What leads to a stage counts for none after it: each is reached by what was seen in the one
    before.
    """
    seen = replace(
        development,
        num_runs=development.num_runs + 1,
        num_successes=development.num_successes + is_success,
    )
    if (
        seen.stage < rules.last
        and seen.num_successes >= rules.min_successes
        and seen.lower_bound >= rules.min_success_ratio
    ):
        return Development(stage=seen.stage + 1)
    return seen


def describe_rule(development: Development, rules: StageRules) -> str:
    """Say what leads to the next stage, and how far it is."""
    return (
        f"at least {rules.min_successes} successful runs, and a share of successes that is surely"
        f" (Wilson's lower bound) at least {rules.min_success_ratio:g}; there are"
        f" {development.num_successes} of {development.num_runs} and it is"
        f" {development.lower_bound:.2f}"
    )
