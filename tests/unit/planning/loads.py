"""Sessions and systems that tests simulate."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from mm_orch.planning.costs import MeasuredCosts
from mm_orch.planning.simulation.balancing import POLICIES
from mm_orch.planning.simulation.limits import ReplicaLimits
from mm_orch.planning.simulation.system import Failures, SystemSpec, simulate
from mm_orch.planning.simulation.work import Session, Turn

if TYPE_CHECKING:
    from mm_orch.planning.simulation.system import Outcome

# What benchmarks.step_times fitted to the real engine.
COSTS = MeasuredCosts(fixed_s=0.00624, per_sequence_s=0.002722, per_prompt_token_s=0.0016755)
ONE_SECOND = MeasuredCosts(fixed_s=1.0, per_sequence_s=0.0, per_prompt_token_s=0.0)


def draw_sessions(
    num_sessions: int,
    rate_per_s: float,
    *,
    prompt: tuple[int, int] = (16, 64),
    output: tuple[int, int] = (32, 64),
    num_turns: int = 1,
    num_group_tokens: int = 0,
    seed: int = 3,
) -> list[Session]:
    """Poisson arrivals with lengths of their own; every third begins alike, where any do."""
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    now_s, sessions = 0.0, []
    for number in range(num_sessions):
        now_s += dice.expovariate(rate_per_s)
        turns = tuple(
            Turn(dice.randint(*prompt), dice.randint(*output), 0.5) for _ in range(num_turns)
        )
        group = number % 3 if num_group_tokens else None
        sessions.append(Session(now_s, turns, group, num_group_tokens))
    return sessions


def make_spec(
    num_replicas: int = 1,
    costs: MeasuredCosts = COSTS,
    *,
    queue_capacity: int = 1 << 30,
    failures: Failures | None = None,
    **limits: Any,
) -> SystemSpec:
    return SystemSpec(
        num_replicas=num_replicas,
        costs=costs,
        limits=ReplicaLimits(**limits),
        queue_capacity=queue_capacity,
        failures=failures,
    )


def run(
    spec: SystemSpec, sessions: list[Session], policy: str = "power_of_two", seed: int = 1
) -> Outcome:
    return simulate(spec, sessions, POLICIES[policy](seed), seed=seed)
