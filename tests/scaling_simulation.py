"""A model whose replicas follow its load, in virtual time: what the policy decides comes true."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.autoscaling.loop import WINDOW_S
from mm_orch.autoscaling.policy import ScalingPolicy
from mm_orch.autoscaling.readings import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.autoscaling.readings import Decision, Goals
    from mm_orch.optimization.replicas.layout import ReplicaRange

_TICK_S = 0.2


@dataclass(slots=True, kw_only=True)
class SimulatedModel:
    """Requests in order of arrival, each of which takes a share of what its replica computes.

    Attributes:
        find_rate: requests that come per second, by the time.
        bounds: of the replicas.
        goals: of the policy.
        tokens_each: of a request.
        tokens_per_s: that a replica computes.
        num_places: requests that a replica works on at once.
        load_s: from when a replica is wanted until it serves.
    """

    find_rate: Callable[[float], float]
    bounds: ReplicaRange
    goals: Goals
    tokens_each: float = 100.0
    tokens_per_s: float = 200.0
    num_places: int = 8
    load_s: float = 10.0
    policy: ScalingPolicy = field(default_factory=ScalingPolicy)
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    now_s: float = 0.0
    num_serving: int = 0
    num_wanted: int = 0
    num_waiting: int = 0
    _due: float = 0.0
    _left: list[float] = field(default_factory=list)
    _ready_at_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_serving = self.num_wanted = self.bounds.least

    def run(self, duration_s: float) -> None:
        """Let it go on for so long."""
        for _ in range(round(duration_s / WINDOW_S)):
            self._take_window()

    def _take_window(self) -> None:
        waiting, running, begun, arrived, computed = 0.0, 0.0, 0, 0, 0.0
        num_ticks = round(WINDOW_S / _TICK_S)
        for _ in range(num_ticks):
            self.now_s += _TICK_S
            arrived += (new := self._arrive())
            self.num_waiting += new
            begun += self._begin()
            computed += self._compute()
            waiting += self.num_waiting / num_ticks
            running += len(self._left) / num_ticks
        self._load()
        reading = Reading(
            span_s=WINDOW_S,
            num_serving=self.num_serving,
            num_wanted=self.num_wanted,
            num_waiting=waiting,
            num_waiting_now=self.num_waiting,
            num_running=running,
            num_begun=begun,
            num_arrived=arrived,
            num_tokens=round(computed),
            num_places=self.num_places,
        )
        decision = self.policy.take(reading, self.bounds, self.goals, self.now_s)
        if decision is not None and decision.count != self.num_wanted:
            self.decisions.append((self.now_s, decision))
            self._scale(decision.count)

    def _arrive(self) -> int:
        self._due += self.find_rate(self.now_s) * _TICK_S
        whole = math.floor(self._due)
        self._due -= whole
        return whole

    def _begin(self) -> int:
        num_free = self.num_places * self.num_serving - len(self._left)
        count = max(0, min(self.num_waiting, num_free))
        self.num_waiting -= count
        self._left += [self.tokens_each] * count
        return count

    def _compute(self) -> float:
        if not self._left:
            return 0.0
        # A batch of one is no faster than its share of a full one would be.
        num_busy = min(self.num_serving, len(self._left))
        share = num_busy * self.tokens_per_s * _TICK_S / len(self._left)
        done = sum(min(share, left) for left in self._left)
        self._left = [left - share for left in self._left if left > share]
        return done

    def _load(self) -> None:
        self.num_serving += sum(at_s <= self.now_s for at_s in self._ready_at_s)
        self._ready_at_s = [at_s for at_s in self._ready_at_s if at_s > self.now_s]

    def _scale(self, count: int) -> None:
        if count > self.num_wanted:
            self._ready_at_s += [self.now_s + self.load_s] * (count - self.num_wanted)
        else:
            # Those that still load leave first.
            num_leaving = self.num_wanted - count
            num_loading = min(num_leaving, len(self._ready_at_s))
            del self._ready_at_s[len(self._ready_at_s) - num_loading :]
            self.num_serving -= num_leaving - num_loading
        self.num_wanted = count
