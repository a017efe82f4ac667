"""A run of the real server, its figures, and the figures of the same requests in the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.benchmarking.summary import summarise
from mm_orch.planning.simulation.balancing import RoundRobin
from mm_orch.planning.simulation.summary import summarise as summarise_simulation
from mm_orch.planning.simulation.system import SystemSpec, simulate
from mm_orch.planning.simulation.work import Session, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.summary import RunSummary
    from mm_orch.benchmarking.vocabulary import CountTokens
    from mm_orch.benchmarking.workloads import Workload
    from mm_orch.planning.samples import MeasuredServer
    from mm_orch.planning.simulation.limits import ReplicaLimits
    from mm_orch.planning.simulation.summary import SimulationSummary


@dataclass(frozen=True, slots=True)
class Run:
    """What the server was asked in one run, and what came of it."""

    workload: Workload
    times_s: Sequence[float]
    record: RunRecord


def tell_fit(server: MeasuredServer) -> dict[str, float]:
    """Return what a server was measured to take, in milliseconds and microseconds."""
    costs = server.costs
    return {
        "fixed_ms": round(costs.fixed_s * 1000, 3),
        "per_sequence_ms": round(costs.per_sequence_s * 1000, 3),
        "per_prompt_token_ms": round(costs.per_prompt_token_s * 1000, 4),
        "per_key_us": round(costs.per_key_s * 1e6, 3),
        "per_early_sequence_ms": round(costs.per_early_sequence_s * 1000, 3),
        "per_early_token_ms": round(costs.per_early_token_s * 1000, 4),
        "per_request_ms": round(costs.per_request_s * 1000, 2),
        "per_pair_us": round(costs.per_pair_s * 1e6, 4),
        "overhead_ms": round(server.overhead_s * 1000, 2),
        "median_residual_ratio": round(server.residual_ratio, 3),
    }


def simulate_run(
    server: MeasuredServer, limits: ReplicaLimits, run: Run, count_tokens: CountTokens
) -> dict[str, float]:
    """Return the figures of the same requests in the simulator.

    Prompt lengths are those that the server counted, its chat template included; times are not
    taken from the run.
    """
    spec = SystemSpec(
        num_replicas=1,
        costs=server.costs,
        limits=limits,
        overhead_s=server.overhead_s,
    )
    sessions = sessions_of(run, count_tokens, server.num_template_tokens)
    return _named(summarise_simulation(simulate(spec, sessions, RoundRobin())))


def sessions_of(run: Run, count_tokens: CountTokens, num_template_tokens: int) -> list[Session]:
    """Return a run's sessions as the simulator takes them.

    All share the system message, or where there is none what the chat template begins with.
    """
    by_session: dict[int, list[int]] = {}
    for record in run.record.requests:
        by_session.setdefault(record.session, []).append(record.num_prompt_tokens)
    sessions = []
    for number, (session, due_s) in enumerate(zip(run.workload.sessions, run.times_s, strict=True)):
        history, turns = 0, []
        for turn, num_prompt in zip(session.turns, by_session.get(number, ()), strict=False):
            turns.append(Turn(max(1, num_prompt - history), turn.num_output_tokens))
            history = num_prompt + turn.num_output_tokens
        if not turns:
            continue
        num_system = count_tokens(session.system) if session.system else num_template_tokens
        num_shared = min(turns[0].num_prompt_tokens - 1, num_system)
        first = Turn(turns[0].num_prompt_tokens - num_shared, turns[0].num_output_tokens)
        group = 0 if num_shared else None
        sessions.append(Session(due_s, (first, *turns[1:]), group, num_shared))
    return sessions


def figures_of(run: RunRecord) -> dict[str, float]:
    """Return the figures of a run that are compared."""
    summary = summarise(run)
    # As the simulator counts: from the first arrival to the last end.
    span_s = run.wall_s - min(record.begin_s for record in run.requests)
    num_answered = summary.num_requests - summary.num_failed
    return _named(summary) | {"requests_per_s": num_answered / span_s}


def _named(summary: RunSummary | SimulationSummary) -> dict[str, float]:
    return {
        "requests_per_s": summary.requests_per_s,
        "p95_s": summary.total.p95_s,
        "ttft_p95_s": summary.ttft.p95_s,
    }
