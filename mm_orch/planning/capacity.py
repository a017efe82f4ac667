"""How many replicas a load needs, with which limits, and what holds them back.

costs + memory + objective -> most sequences in a step -> most requests/s of a replica
rate / that                -> where the search for replicas begins
simulation                 -> the fewest replicas with which 95 of 100 requests keep the objective
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import InvalidValueError
from mm_orch.planning.simulation.balancing import PrefixAffinity
from mm_orch.planning.simulation.limits import ReplicaLimits
from mm_orch.planning.simulation.summary import SimulationSummary, summarise
from mm_orch.planning.simulation.system import SystemSpec, simulate

if TYPE_CHECKING:
    from mm_orch.benchmarking.objective import Objective
    from mm_orch.planning.costs import StepCosts
    from mm_orch.planning.traffic import Traffic

GOOD_RATIO = 0.95
"""Share of the requests that must keep the objective."""
KV_MEMORY = "KV memory"

_MAX_BATCH_SIZE = 256
_MAX_BATCH_TOKENS = 2048
_MIN_BATCH_TOKENS = 64
_DEFAULT_QUEUE = 100
# More replicas than these are simulated as so many with their share of the load: among that many
# a balancer finds nearly as good a place as among all.
_MAX_SIMULATED = 8
_REQUESTS_PER_REPLICA = 250
_MAX_REQUESTS = 40_000
# So many lone answers, one after another, until a system that was idle is as it will stay.
_SETTLING_ANSWERS = 5
_LONE_REQUESTS = 100
_ALONE_S = 1e5
# Above it a burst takes long to go away, and no replica may fail.
_MAX_LOAD_RATIO = 0.85
_MAX_REPLICAS = 100_000
# Gaps vary, and the mean over an answer has to keep the bound in 95 of 100.
_ITL_SHARE = 0.8
_MIN_GAIN = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What one replica offers.

    Attributes:
        costs: of its steps.
        kv_tokens: that its KV memory holds.
        kv_bytes_per_token: 0 where it is not known.
        overhead_s: that the server adds to a request.
    """

    costs: StepCosts
    kv_tokens: int
    kv_bytes_per_token: int = 0
    overhead_s: float = 0.0


class CapacityPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed and what to expect of it.

    Attributes:
        is_met: 95 of 100 requests keep the objective; else the rest is the best that was found.
        num_replicas: in all.
        num_simulated: replicas that the expectation was simulated with, at their share of the load.
        max_batch_size: for optimization.batcher; ``max_batch_tokens`` too.
        batch_bound: why no more sequences share a step.
        queue_capacity: for monitoring.server, of the whole system.
        kv_tokens: that sequences of a full batch hold at once; ``kv_bytes`` of each replica.
        capacity_per_s: requests that one replica answers at most.
        load_ratio: share of that which is asked for.
        expected: by simulation.
        bottleneck: the thing of which twice as much helps most; None where nothing does.
        gain: by so many times.
        gain_by_thing: of all that were tried.
    """

    is_met: bool
    num_replicas: int
    num_simulated: int
    max_batch_size: int
    max_batch_tokens: int
    batch_bound: str
    queue_capacity: int
    kv_tokens: int
    kv_bytes: int
    capacity_per_s: float
    load_ratio: float
    expected: SimulationSummary
    bottleneck: str | None
    gain: float
    gain_by_thing: dict[str, float]


def make_plan(site: Site, traffic: Traffic, objective: Objective, *, seed: int = 0) -> CapacityPlan:
    """Return the fewest replicas that serve the traffic within the objective.

    Raises:
        InvalidValueError: the longest request does not fit into a replica's KV memory, or more
            replicas than anybody has are needed.
    """
    if traffic.longest_tokens > site.kv_tokens:
        raise InvalidValueError(
            f"--traffic: the longest request has {traffic.longest_tokens} tokens, and the KV memory"
            f" of a replica holds {site.kv_tokens}; give shorter ones, or more memory"
        )
    batch_size, bound = find_batch_size(site, traffic, objective)
    capacity = find_capacity(site.costs, traffic, batch_size)
    search = _Search(site, traffic, objective, batch_size, seed)
    num_replicas, expected = search.find(
        math.ceil(traffic.rate_per_s / (_MAX_LOAD_RATIO * capacity))
    )
    gains = find_gains(site, traffic, objective)
    best = max(gains, key=lambda name: gains[name])
    has_gain = gains[best] >= _MIN_GAIN
    kv_tokens = min(site.kv_tokens, batch_size * traffic.longest_tokens)
    return CapacityPlan(
        is_met=_keeps(expected),
        num_replicas=num_replicas,
        num_simulated=search.count_simulated(num_replicas),
        max_batch_size=batch_size,
        max_batch_tokens=search.limits.max_batch_tokens,
        batch_bound=bound,
        queue_capacity=_find_queue(objective, num_replicas * capacity, batch_size),
        kv_tokens=kv_tokens,
        kv_bytes=kv_tokens * site.kv_bytes_per_token,
        capacity_per_s=capacity,
        load_ratio=traffic.rate_per_s / (num_replicas * capacity),
        expected=expected,
        bottleneck=best if has_gain else None,
        gain=gains[best],
        gain_by_thing=gains,
    )


def find_batch_size(site: Site, traffic: Traffic, objective: Objective) -> tuple[int, str]:
    """Return the most sequences for a step, and what bounds them; at least 1."""
    num_context = traffic.mean_prompt_tokens + traffic.num_output_tokens
    by_memory = max(1, int(site.kv_tokens / num_context))
    bounds = {KV_MEMORY: by_memory, f"{_MAX_BATCH_SIZE} at most": _MAX_BATCH_SIZE}
    if objective.itl_ms is not None:
        bound_s = _ITL_SHARE * objective.itl_ms / 1000
        by_pace = _count_in_pace(site.costs, num_context, bound_s)
        if by_pace:
            # Where not even one keeps pace, small batches would only cost more.
            bounds["time between tokens"] = by_pace
    name = min(bounds, key=lambda one: bounds[one])
    return bounds[name], name


def _count_in_pace(costs: StepCosts, num_context: float, bound_s: float) -> int:
    """Return the most sequences that a step of this length can advance."""
    return sum(
        costs.step_s(number, number * num_context, 0, 0) <= bound_s
        for number in range(1, _MAX_BATCH_SIZE + 1)
    )


def find_capacity(costs: StepCosts, traffic: Traffic, batch_size: int) -> float:
    """Return the requests a second that a replica with full batches answers.

    Each step takes in as many prompt tokens as its sequences need in the same time, so that one
    request joins for each that ends.
    """
    num_output = traffic.num_output_tokens
    num_joining = batch_size / num_output
    num_prompt = traffic.mean_prompt_tokens - _count_reused(traffic)
    num_keys = traffic.mean_prompt_tokens + num_output / 2
    step_s = costs.step_s(
        batch_size,
        batch_size * num_keys,
        math.ceil(num_joining * num_prompt),
        num_joining * num_prompt * (traffic.mean_prompt_tokens - num_prompt / 2),
    )
    return num_joining / (step_s + num_joining * costs.per_request_s)


def find_gains(site: Site, traffic: Traffic, objective: Objective) -> dict[str, float]:
    """Return how many times as many requests twice as much of each thing would serve."""
    standing, _ = find_batch_size(site, traffic, objective)

    def capacity_of(one: Site) -> float:
        # With more of anything no fewer sequences share a step.
        batch_size = max(standing, find_batch_size(one, traffic, objective)[0])
        return find_capacity(one.costs, traffic, batch_size)

    now = capacity_of(site)
    others = {name: replace(site, costs=costs) for name, costs in site.costs.relieve().items()}
    others[KV_MEMORY] = replace(site, kv_tokens=2 * site.kv_tokens)
    return {name: capacity_of(one) / now for name, one in others.items()}


def _count_reused(traffic: Traffic) -> float:
    """Prompt tokens of a request that are known from before: the beginning, and the history."""
    return traffic.mean_prompt_tokens - traffic.num_prompt_tokens


def _find_queue(objective: Objective, capacity_per_s: float, batch_size: int) -> int:
    """Return how many may wait and still begin in time: rate times bound (Little's law)."""
    bound_ms = objective.ttft_ms or objective.e2e_ms
    if bound_ms is None:
        return max(_DEFAULT_QUEUE, batch_size)
    return max(1, math.ceil(capacity_per_s * bound_ms / 1000))


def _keeps(summary: SimulationSummary) -> bool:
    return summary.good_ratio is not None and summary.good_ratio >= GOOD_RATIO


class _Search:
    """Tries numbers of replicas until the fewest that do are found."""

    def __init__(
        self, site: Site, traffic: Traffic, objective: Objective, batch_size: int, seed: int
    ) -> None:
        self._site = site
        self._traffic = traffic
        self._objective = objective
        self._seed = seed
        self._settling_s = 0.0
        self.limits = ReplicaLimits(
            max_batch_size=batch_size,
            max_batch_tokens=_find_batch_tokens(site, objective),
            kv_tokens=site.kv_tokens,
        )

    def find(self, first: int) -> tuple[int, SimulationSummary]:
        """Return the fewest replicas that keep the objective, or those where more do not help.

        Args:
            first: least number that has the arithmetic for it; at least 1.
        """
        # One after another, each with the replica to itself.
        lone = self._simulate(1, _LONE_REQUESTS * _ALONE_S, rate_per_s=1 / _ALONE_S)
        self._settling_s = _SETTLING_ANSWERS * lone.total.p50_s + self._traffic.session_s
        if not _keeps(lone):
            return first, self._run(first)
        low, high, found = first - 1, first, self._run(first)
        while not _keeps(found):
            low, high = high, 2 * high
            if high > _MAX_REPLICAS:
                raise InvalidValueError(
                    f"--traffic: rate={self._traffic.rate_per_s:g} needs more than {_MAX_REPLICAS}"
                    " replicas; give a lower one"
                )
            found = self._run(high)
        while high - low > max(1, high // 50):
            middle = (low + high) // 2
            tried = self._run(middle)
            if _keeps(tried):
                high, found = middle, tried
            else:
                low = middle
        return high, found

    def count_simulated(self, num_replicas: int) -> int:
        """Return how many of these replicas are simulated, with their share of the load."""
        num_each = self._find_span(num_replicas) * self._traffic.rate_per_s / num_replicas
        return max(1, min(num_replicas, _MAX_SIMULATED, int(_MAX_REQUESTS / num_each)))

    def _find_span(self, num_replicas: int) -> float:
        """Return for how long requests come: until it has settled, and twice as long again."""
        rate_per_s = self._traffic.rate_per_s / num_replicas
        return max(3 * self._settling_s, _REQUESTS_PER_REPLICA / rate_per_s)

    def _run(self, num_replicas: int) -> SimulationSummary:
        num_simulated = self.count_simulated(num_replicas)
        rate_per_s = self._traffic.rate_per_s * num_simulated / num_replicas
        return self._simulate(num_simulated, self._find_span(num_replicas), rate_per_s=rate_per_s)

    def _simulate(
        self, num_replicas: int, span_s: float, *, rate_per_s: float
    ) -> SimulationSummary:
        spec = SystemSpec(
            num_replicas=num_replicas,
            costs=self._site.costs,
            limits=self.limits,
            overhead_s=self._site.overhead_s,
        )
        sessions = self._traffic.draw(span_s, rate_per_s=rate_per_s, seed=self._seed)
        outcome = simulate(spec, sessions, PrefixAffinity(self._seed), seed=self._seed)
        return summarise(outcome, self._objective, since_s=self._settling_s)


def _find_batch_tokens(site: Site, objective: Objective) -> int:
    """Return the prompt tokens of a step that takes at most half of the time to a first token."""
    num_tokens = _MAX_BATCH_TOKENS
    bound_s = math.inf if objective.ttft_ms is None else objective.ttft_ms / 2000
    while num_tokens > _MIN_BATCH_TOKENS and site.costs.step_s(0, 0, num_tokens, 0) > bound_s:
        num_tokens //= 2
    return num_tokens
