"""Balancing policies at 1, 10, 100 and 1,000 simulated replicas, with and without failures.

usage: python -m benchmarks.scaling [--replicas N ...] [--requests N] [--load X]

Each replica is an H100 by its data sheet with a model of 8 billion parameters in 16 bits. Sessions
come at random: single questions; conversations of four turns; and conversations that share one of
as many long beginnings as there are replicas. The load is a share of what as many replicas answer
with full batches. Simulated: needs no quiet machine, and says what processor time each simulation
took, and how long the server's balancer takes for one choice among so many.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.results_file import report, write_table
from benchmarks.statistics import Verdict
from mm_orch.optimization.replicas.balancer import Balancer
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS
from mm_orch.planning.capacity import find_capacity
from mm_orch.planning.hardware import find_gpu
from mm_orch.planning.model_shape import ModelShape
from mm_orch.planning.simulation.balancing import POLICIES
from mm_orch.planning.simulation.limits import ReplicaLimits
from mm_orch.planning.simulation.summary import summarise
from mm_orch.planning.simulation.system import Failures, SystemSpec, simulate
from mm_orch.planning.simulation.work import Session, Turn
from mm_orch.planning.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.planning.costs import RooflineCosts
    from mm_orch.planning.simulation.summary import SimulationSummary

_MODEL = "parameters=8e9,layers=32,heads=32,kv_heads=8"
_GPU = "h100-sxm"
_BATCH_SIZE = 64
_OVERHEAD_S = 0.005
_MAX_SIMULATION_S = 1800.0
_SESSIONS_LONG = 2.5
# It looks at every replica for each request.
_SLOW_POLICY = "server's prefix"
_MOST_FOR_SLOW = 100
_NUM_CHOICES = 500
_CHOICE_BLOCKS = 40
_CHOICE_QUEUE = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A kind of load.

    Attributes:
        traffic: its lengths; of the rate, only that it is spread over turns counts.
        shared_tokens: of the beginning that each session draws; 0 shares nothing.
        failures: how replicas die.
    """

    name: str
    traffic: Traffic
    shared_tokens: int = 0
    failures: Failures | None = None

    @property
    def all(self) -> Traffic:
        """The traffic with the beginnings that its sessions draw."""
        return replace(self.traffic, num_shared_tokens=self.shared_tokens)


_TALK = Traffic(
    rate_per_s=1.0, num_prompt_tokens=150, num_output_tokens=150, num_turns=4, think_s=5.0
)
WORKS = (
    Work(
        name="questions",
        traffic=Traffic(rate_per_s=1.0, num_prompt_tokens=800, num_output_tokens=200),
    ),
    Work(name="conversations", traffic=_TALK),
    Work(name="shared beginnings", traffic=_TALK, shared_tokens=3000),
    Work(
        name="conversations, a death every 300 s a replica",
        traffic=_TALK,
        failures=Failures(mean_life_s=300.0, restart_s=30.0),
    ),
)


def main() -> int:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--requests", type=int, default=60, help="for each replica")
    parser.add_argument("--load", type=float, default=0.7, help="share of the capacity")
    options = parser.parse_args()
    costs, limits = _make_replica()
    figures: dict[str, object] = {"load": options.load, "requests_per_replica": options.requests}
    longest_s = 0.0
    rows: list[list[object]] = []
    # The large ones last: what is small is known soon.
    for num_replicas, work in itertools.product(options.replicas, WORKS):
        spec = SystemSpec(
            num_replicas=num_replicas,
            costs=costs,
            limits=limits,
            overhead_s=_OVERHEAD_S,
            failures=work.failures,
        )
        rate = options.load * find_capacity(costs, work.all, _BATCH_SIZE) * num_replicas
        for policy in POLICIES:
            if policy == _SLOW_POLICY and num_replicas > _MOST_FOR_SLOW:
                continue
            begin_s = time.process_time()
            summary, rate_per_s = _simulate(
                spec, work, policy, rate, options.requests * num_replicas
            )
            took_s = time.process_time() - begin_s
            longest_s = max(longest_s, took_s)
            rows.append(_row(work, num_replicas, policy, summary, (rate_per_s, took_s)))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    names = [work.name for work in WORKS]
    rows.sort(key=lambda row: names.index(str(row[0])))
    head = (
        "load", "replicas", "policy", "requests/s", "TTFT p95", "p95", "reused", "busy",
        "busiest / mean", "moved", "processor time",
    )  # fmt: skip
    print(write_table("scaling", head, rows))
    figures["bottlenecks"] = {work.name: _find_bottlenecks(work, costs) for work in WORKS}
    figures["ms_a_choice"] = {
        str(number): round(_time_choice(number) * 1000, 3) for number in options.replicas
    }
    figures["rows"] = [dict(zip(head, map(str, row), strict=True)) for row in rows]
    figures["longest_simulation_s"] = round(longest_s, 1)
    is_met = longest_s <= _MAX_SIMULATION_S
    verdict = Verdict.MET if is_met else Verdict.MISSED
    return report("scaling", figures, [], {"no simulation takes over half an hour": verdict})


def _make_replica() -> tuple[RooflineCosts, ReplicaLimits]:
    shape, gpu = ModelShape.parse(_MODEL), find_gpu(_GPU)
    if gpu is None:
        message = f"{_GPU} is not known"
        raise LookupError(message)
    limits = ReplicaLimits(max_batch_size=_BATCH_SIZE, kv_tokens=shape.count_kv_tokens(gpu))
    return shape.on(gpu), limits


def _find_bottlenecks(work: Work, costs: RooflineCosts) -> dict[str, float]:
    """Return how many times as many requests twice as much of each thing would serve.

    KV memory is none of them: it holds more sequences than share a step.
    """
    now = find_capacity(costs, work.all, _BATCH_SIZE)
    gains = {
        name: find_capacity(relieved, work.all, _BATCH_SIZE) / now
        for name, relieved in costs.relieve().items()
    }
    gains["sequences in a step"] = find_capacity(costs, work.all, 2 * _BATCH_SIZE) / now
    return {name: round(gain, 2) for name, gain in gains.items()}


def _time_choice(num_replicas: int) -> float:
    """Return the processor time in seconds that the server's balancer takes for one request."""
    dice = random.Random(3)  # noqa: S311 - reproducible on purpose
    balancer = Balancer()
    for replica in range(num_replicas):
        balancer.join(replica, max_tokens=_CHOICE_BLOCKS * BLOCK_TOKENS * _NUM_CHOICES)
    prompts = [
        [hash((dice.randrange(num_replicas), block)) for block in range(_CHOICE_BLOCKS)]
        for _ in range(_NUM_CHOICES)
    ]
    queues = {replica: dice.randrange(_CHOICE_QUEUE) for replica in range(num_replicas)}
    begin_s = time.process_time()
    for names in prompts:
        balancer.choose(
            names,
            num_tokens=_CHOICE_BLOCKS * BLOCK_TOKENS,
            conversation="",
            queued_tokens=queues,
        )
    return (time.process_time() - begin_s) / _NUM_CHOICES


def _simulate(
    spec: SystemSpec, work: Work, policy: str, rate: float, num_requests: int
) -> tuple[SimulationSummary, float]:
    """Return what was seen in the later half of the time, and the requests a second answered."""
    # By the half of it, conversations end as often as they begin.
    span_s = max(num_requests / rate, _SESSIONS_LONG * work.traffic.session_s)
    sessions = _draw(work, span_s, rate, spec.num_replicas)
    outcome = simulate(spec, sessions, POLICIES[policy](1), seed=1)
    num_ended = sum(
        span_s / 2 <= one.ended_s < span_s for one in outcome.requests if one.ended_s is not None
    )
    return summarise(outcome, since_s=span_s / 2), num_ended / (span_s / 2)


def _draw(work: Work, span_s: float, rate: float, num_groups: int) -> Iterator[Session]:
    dice = random.Random(2)  # noqa: S311 - reproducible on purpose
    for session in work.traffic.draw(span_s, rate_per_s=rate, seed=1):
        if not work.shared_tokens:
            yield session
            continue
        group = dice.randrange(num_groups)
        turns: tuple[Turn, ...] = session.turns
        yield Session(session.arrived_s, turns, group, work.shared_tokens)


def _row(
    work: Work,
    num_replicas: int,
    policy: str,
    summary: SimulationSummary,
    seen: tuple[float, float],
) -> list[object]:
    rate_per_s, took_s = seen
    return [
        work.name,
        num_replicas,
        policy,
        f"{rate_per_s:.4g}",
        f"{summary.ttft.p95_s * 1000:.0f} ms",
        f"{summary.total.p95_s:.2f} s",
        f"{summary.cached_ratio:.0%}",
        f"{summary.busy_ratio:.0%}",
        f"{summary.imbalance:.2f}",
        summary.num_moves,
        f"{took_s:.1f} s",
    ]


if __name__ == "__main__":
    sys.exit(main())
