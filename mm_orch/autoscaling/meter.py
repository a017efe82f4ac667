"""Takes the path's events in and gives a reading of each model's window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.autoscaling.readings import Reading
from mm_orch.core.events import CacheUsed, LoadChanged, RequestStarted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import Event

_MIN_SPAN_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The replicas of a model now.

    Attributes:
        serving: numbers of those that take requests.
        num_wanted: how many there should be.
        num_places: sequences that one works on at once.
        num_queued_tokens: that all of them have still to compute.
        num_computed_by_worker: tokens since each began, by something that tells them apart.
    """

    serving: tuple[int, ...]
    num_wanted: int
    num_places: int
    num_queued_tokens: int
    num_computed_by_worker: Mapping[int, int]


@dataclass(slots=True)
class _Window:
    begin_s: float
    since_s: float
    num_waiting: int = 0
    num_running: int = 0
    # Products of a number and the seconds for which it held.
    waiting_s: float = 0.0
    running_s: float = 0.0
    num_waiting_before: int = 0
    num_begun: int = 0
    kv_use_by_replica: dict[int, float] = field(default_factory=dict)
    num_computed_by_worker: Mapping[int, int] = field(default_factory=dict)


class LoadMeter:
    """An observer of the load of each model, of one window after another.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def observe(self, event: Event) -> None:
        """Take one fact."""
        match event:
            case LoadChanged():
                window = self._advance(event.model)
                window.num_waiting, window.num_running = event.num_waiting, event.num_running
            case RequestStarted():
                self._advance(event.model).num_begun += 1
            case CacheUsed() if event.replica >= 0:
                window = self._advance(event.model)
                window.kv_use_by_replica[event.replica] = event.use_ratio
            case _:
                pass

    def read(self, model: str, standing: Standing) -> Reading:
        """Return what the window that ends now says of a model; the next one begins."""
        window, now_s = self._advance(model), self._clock()
        span_s = max(_MIN_SPAN_S, now_s - window.begin_s)
        uses = [window.kv_use_by_replica.get(number) for number in standing.serving]
        known = [use for use in uses if use is not None]
        before, after = window.num_computed_by_worker, standing.num_computed_by_worker
        reading = Reading(
            span_s=span_s,
            num_serving=len(standing.serving),
            num_wanted=standing.num_wanted,
            num_waiting=window.waiting_s / span_s,
            num_waiting_now=window.num_waiting,
            num_running=window.running_s / span_s,
            num_begun=window.num_begun,
            # Those that gave up while they waited come off.
            num_arrived=max(0, window.num_begun + window.num_waiting - window.num_waiting_before),
            num_tokens=sum(count - before.get(worker, 0) for worker, count in after.items()),
            num_queued_tokens=standing.num_queued_tokens,
            num_places=standing.num_places,
            kv_use_ratio=sum(known) / len(known) if known else None,
        )
        window.begin_s = now_s
        window.waiting_s = window.running_s = 0.0
        window.num_waiting_before, window.num_begun = window.num_waiting, 0
        window.num_computed_by_worker = after
        return reading

    def _advance(self, model: str) -> _Window:
        """Return a model's window with the time since its last event counted."""
        now_s = self._clock()
        window = self._windows.get(model)
        if window is None:
            window = self._windows[model] = _Window(now_s, now_s)
        waited_s = now_s - window.since_s
        window.waiting_s += window.num_waiting * waited_s
        window.running_s += window.num_running * waited_s
        window.since_s = now_s
        return window
