"""What an evaluation looks at: the figures of one window, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "host"
ANY_ENGINE = ""
"""Engine of a model as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """Requests of one model on one engine that ended in the window.

    Rejected and cancelled requests are in none of the counts: neither is the engine's doing. A
    model of which requests failed before they had an engine (it does not load, none is up) is
    there as a whole as well: on any engine, with the ends of all, without latencies.

    Attributes:
        num_succeeded: those that ended well.
        num_failed: errors and timeouts.
        latency_p50_s: admission to end, of all that reached the engine, however they ended: who
            gave up after a minute did wait; None where there were none.
        latency_p95_s: the same.
    """

    model: str
    engine: str
    num_succeeded: int = 0
    num_failed: int = 0
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFigures:
    """How a model, with whichever engines, gets through what waits for it.

    Attributes:
        num_waiting: requests that wait now.
        waiting_s: for how long there have been such without a break; 0 where none waits.
        throughput_rps: requests that ended per second, over the window or, where that is shorter,
            over ``waiting_s``: a quiet time before says nothing of what the model can do.
    """

    model: str
    num_waiting: int = 0
    waiting_s: float = 0.0
    throughput_rps: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigures:
    """Memory of one place: ``host``, or a GPU's id; shares are 0 to 1.

    Attributes:
        reserved_ratio: that an engine takes at its start, whatever there is to do: no trouble.
    """

    place: str
    used_ratio: float
    reserved_ratio: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that one evaluation looks at.

    Attributes:
        fault_by_gpu: what is wrong with each GPU that must not be used.
    """

    models: tuple[ModelFigures, ...] = ()
    queues: tuple[QueueFigures, ...] = ()
    memory: tuple[MemoryFigures, ...] = ()
    fault_by_gpu: Mapping[str, str] = field(default_factory=dict)
