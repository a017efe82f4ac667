"""A simulated replica against the real batcher and cache, on the same work and step times."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from benchmarks.statistics import percentile
from mm_orch.planning.costs import MeasuredCosts
from mm_orch.planning.simulation.limits import ReplicaLimits
from mm_orch.planning.simulation.system import SystemSpec
from tests.unit.planning.loads import COSTS, draw_sessions, run
from tests.unit.planning.real_batcher import RealBatcher

# What benchmarks.simulator_check fits to the real server, about.
FOLDED = MeasuredCosts(
    fixed_s=0.005,
    per_sequence_s=0.0013,
    per_prompt_token_s=0.0011,
    per_early_sequence_s=0.0009,
    per_early_token_s=0.0005,
)
_LONG: dict[str, Any] = {"prompt": (500, 1500), "output": (32, 64)}
_TALK: dict[str, Any] = {"prompt": (20, 60), "output": (20, 50), "num_turns": 4}
CASES: dict[str, tuple[int, float, dict[str, Any], dict[str, Any]]] = {
    "light": (100, 1.0, {}, {}),
    "loaded": (200, 4.0, {}, {}),
    "overloaded": (150, 8.0, {}, {}),
    "prompts as they come": (200, 4.0, {}, {"is_adaptive": False}),
    "small batches": (150, 3.0, {}, {"max_batch_size": 4}),
    "prompts in pieces": (50, 0.5, _LONG, {"max_batch_tokens": 128}),
    "long prompts": (50, 0.5, _LONG, {}),
    "conversations": (40, 0.4, _TALK, {}),
    "no reuse": (40, 0.4, _TALK, {"is_reusing": False}),
    "shared beginnings": (150, 2.0, {"num_group_tokens": 200}, {}),
    "short of memory": (120, 3.0, {"output": (20, 90)}, {"kv_tokens": 40 * 16}),
    "reuse short of memory": (50, 0.4, _TALK, {"kv_tokens": 60 * 16}),
}


@pytest.mark.parametrize(
    ("case", "costs"),
    [*((case, COSTS) for case in CASES), *((case, FOLDED) for case in ("light", "loaded"))],
    ids=[*CASES, "light, few rows cost more", "loaded, few rows cost more"],
)
def test_a_replica_serves_as_the_real_batcher_does(case: str, costs: MeasuredCosts) -> None:
    num_sessions, rate, load, bounds = CASES[case]
    sessions = draw_sessions(num_sessions, rate, **load)
    limits = ReplicaLimits(**{"kv_tokens": 160_000, **bounds})

    seen = RealBatcher(costs, limits, limits.kv_tokens // limits.block_tokens).run(sessions)
    outcome = run(SystemSpec(num_replicas=1, costs=costs, limits=limits), sessions)

    requests = {(one.session, one.turn): one for one in outcome.requests}
    assert requests.keys() == seen.ended_s.keys()
    arrived_s = {key: one.arrived_s for key, one in requests.items()}
    real_s = [seen.ended_s[key] - arrived_s[key] for key in requests]
    simulated_s = [(one.ended_s or 0.0) - one.arrived_s for one in requests.values()]
    # Where sequences are preempted all the time, blocks and tokens count differently.
    near = 0.15 if seen.num_preempted > len(sessions) / 10 else 0.03
    if "num_group_tokens" in load:
        # Blocks of a beginning are shared one by one, here only when all of it is there.
        near = 0.06
    for share in (0.5, 0.95):
        assert percentile(simulated_s, share) == pytest.approx(percentile(real_s, share), rel=near)
    assert statistics.fmean(simulated_s) == pytest.approx(statistics.fmean(real_s), rel=near)
    num_reused = sum(one.num_reused for one in requests.values())
    assert num_reused == pytest.approx(sum(seen.num_reused.values()), rel=0.02)
    num_preempted = outcome.replicas[0].counts.num_preempted
    assert num_preempted == pytest.approx(seen.num_preempted, rel=0.4, abs=5)


def test_the_cases_meet_what_they_are_for() -> None:
    num_sessions, rate, load, bounds = CASES["short of memory"]
    limits = ReplicaLimits(**bounds)
    spec = SystemSpec(num_replicas=1, costs=COSTS, limits=limits)

    outcome = run(spec, draw_sessions(num_sessions, rate, **load))

    assert outcome.replicas[0].counts.num_preempted > 10
