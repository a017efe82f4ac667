"""Puts what the mind holds into the shapes that it is told in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.mind_report import DevelopmentReport, GoalsReport, MemoryReport, StageReport

if TYPE_CHECKING:
    from mm_orch.consciousness.goals import Goals
    from mm_orch.consciousness.memory import OutcomeMemory
    from mm_orch.consciousness.stages import Development, StageRules


def report_goals(goals: Goals) -> GoalsReport:
    """Return how much each goal counts."""
    return GoalsReport(
        quality=goals.quality / goals.total,
        latency=goals.latency / goals.total,
        cost=goals.cost / goals.total,
    )


def report_development(
    development: Development, rules: StageRules, *, is_gating: bool
) -> DevelopmentReport:
    """Return the stage, and how far the next one is."""
    return DevelopmentReport(
        is_gating=is_gating,
        stage=development.stage,
        stages=tuple(
            StageReport(number=number, workflows=workflows)
            for number, workflows in enumerate(rules.workflows_by_stage)
        ),
        num_runs=development.num_runs,
        num_successes=development.num_successes,
        lower_bound=development.lower_bound,
        min_successes=rules.min_successes,
        min_success_ratio=rules.min_success_ratio,
    )


def report_memory(memory: OutcomeMemory, *, is_stored: bool, problem: str) -> MemoryReport:
    """Return what is remembered, as it is now."""
    memory.forget_summary()
    return MemoryReport(
        is_stored=is_stored,
        problem=problem,
        half_life_s=memory.half_life_s,
        workflows=memory.outcomes_by_workflow(),
        models=memory.outcomes_by_model(),
    )
