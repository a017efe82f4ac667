"""What the system says of itself: the shapes of health, readiness and status."""

from __future__ import annotations

import enum

import msgspec

from mm_orch.core.fleet_events import EndpointState
from mm_orch.core.generation import Task
from mm_orch.core.observations import FiringAlert
from mm_orch.core.scaling_report import ScalingReport
from mm_orch.core.tuning_report import TunerReport
from mm_orch.kv_cache.cache import CacheStats
from mm_orch.optimization.engines.contract import Availability
from mm_orch.workers.messages import Sharing
from mm_orch.workers.phase import ModelPhase


class HealthStatus(enum.Enum):
    """The whole in one word; only unhealthy is answered with 503."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class StandInReport(msgspec.Struct, frozen=True, kw_only=True):
    """The second engine of a model, for requests that its own engine cannot do.

    Attributes:
        engine: that runs it or is to run it, or None where none can.
        detail: progress or the reason of a failure, for people.
        memory_bytes: what its worker was last measured to take.
    """

    phase: ModelPhase
    engine: str | None = None
    detail: str = ""
    dtype: str | None = None
    worker_pid: int | None = None
    memory_bytes: int | None = None


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """One of the servers elsewhere that run a model.

    Attributes:
        address: where it listens.
        detail: why it fails, for people; empty while it does not.
        circuit: closed, half_open or open.
        num_running: requests that it has been given by this process.
        num_queued_tokens: that it has still to compute for these.
        num_held_tokens: of prompts, that it is thought to hold.
    """

    address: str
    state: EndpointState
    detail: str = ""
    circuit: str = "closed"
    num_running: int = 0
    num_queued_tokens: int = 0
    num_held_tokens: int = 0


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """One of several workers that run a model side by side.

    Attributes:
        number: tells them apart; that of one which has left is used again.
        engine: that runs it or is to run it, or None where none can.
        detail: progress or the reason of a failure, for people.
        is_draining: it takes no new requests, and leaves when it has ended those that it has.
        cores: that it computes on; none where these are all.
        gpus: that it computes on; none on the CPU, and where nobody has placed it.
        num_running: sequences in its steps.
        num_queued_tokens: that it has still to compute.
        num_held_tokens: of past prompts, that requests are thought to find there.
        cache_hit_ratio: prompt tokens that needed no computing of all, 0 to 1, since it began; None
            where the engine does not say.
    """

    number: int
    phase: ModelPhase
    engine: str | None = None
    detail: str = ""
    is_draining: bool = False
    worker_pid: int | None = None
    num_restarts: int = 0
    cores: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    num_running: int = 0
    num_queued_tokens: int = 0
    num_held_tokens: int = 0
    cache_hit_ratio: float | None = None


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """One configured model and the worker that runs it.

    Attributes:
        task: what the model is for.
        dimensions: of an embedding model's vectors, once it is loaded.
        engine: the engine that runs it or is to run it, or None where none can.
        detail: progress or the reason of a failure, for people.
        cache: the worker's KV cache after its last step; None where the engine has its own.
        kv_use_ratio: share of the KV memory in use, 0 to 1, whoever keeps it.
        cache_hit_ratio: prompt tokens that needed no computing of all, 0 to 1: since its worker
            began, or of the last minutes where the engine has its own cache.
        memory_bytes: what its worker was last measured to take.
        seconds_without_step: since it last told of progress; None while it has nothing to do.
        wanted_engine: the preferred engine, where another runs in its place.
        fallback_reason: why, in one line.
        circuits: each engine's circuit: closed, half_open or open.
        is_draining: it takes no new requests until it is resumed.
        max_batch_size: most sequences in one of its steps.
        in_force: how they share steps and memory, as its worker has said last.
        kv_target_bytes: the bound on its keys and values.
        kv_actual_bytes: the memory that they take or may take: more than the bound where that was
            lowered, until the memory is given back.
        stand_in: what answers requests that the engine cannot do, while it is in memory.
        endpoints: the servers elsewhere that run it.
        replicas: the workers side by side, where it is loaded; what is told of one worker above is
            of the first of these that serves.
        num_wanted_replicas: how many there should be.
        replicas_detail: why there are fewer, where memory is what they lack.
        scaling: what was last decided on their number, where that follows the load.
        lesser_place: why one of them is not on the GPUs that it would have liked; empty where all
            are, or there are none.
    """

    name: str
    aliases: tuple[str, ...]
    source: str
    phase: ModelPhase
    task: Task = "generate"
    dimensions: int | None = None
    engine: str | None = None
    detail: str = ""
    dtype: str | None = None
    device: str | None = None
    context_length: int | None = None
    num_running: int = 0
    num_waiting: int = 0
    num_restarts: int = 0
    worker_pid: int | None = None
    cache: CacheStats | None = None
    kv_use_ratio: float | None = None
    cache_hit_ratio: float | None = None
    memory_bytes: int | None = None
    seconds_without_step: float | None = None
    wanted_engine: str | None = None
    fallback_reason: str = ""
    circuits: dict[str, str] = {}
    is_draining: bool = False
    max_batch_size: int | None = None
    in_force: Sharing | None = None
    kv_target_bytes: int | None = None
    kv_actual_bytes: int | None = None
    stand_in: StandInReport | None = None
    endpoints: tuple[EndpointReport, ...] = ()
    replicas: tuple[ReplicaReport, ...] = ()
    num_wanted_replicas: int = 1
    replicas_detail: str = ""
    scaling: ScalingReport | None = None
    lesser_place: str = ""

    @property
    def short_detail(self) -> str:
        """What may be shown without a key; a worker's log lines follow in later lines."""
        return self.detail.partition("\n")[0]


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of /health.

    Attributes:
        engines: each with why it cannot run here, and what to install.
        endpoints: the servers elsewhere, by the model that they run.
    """

    status: HealthStatus
    degradation_reasons: tuple[str, ...]
    uptime_seconds: float
    models_loaded: tuple[str, ...]
    engines_available: tuple[str, ...]
    engines: tuple[Availability, ...]
    queue_size: int
    queue_capacity: int
    version: str
    endpoints: dict[str, tuple[EndpointReport, ...]] = {}


class ReadyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of /ready: whether a request sent now would be served, and why not."""

    is_ready: bool
    reason: str = ""


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that --status prints and /api/status answers.

    Attributes:
        is_ready: a request sent now would be served.
        not_ready_because: why not; empty when it would.
        requests_per_second: that left, served or not, over their last 64 in the last minute at
            most: what Retry-After goes by. None before two have. The windows of ``/api/metrics``
            have the rate of those that succeeded.
        alerts: those that fire now; None where nothing watches for trouble.
        tuner: what is tuned to what, with its last decision alone; None where it is switched off.
    """

    health: HealthReport
    is_ready: bool
    not_ready_because: str = ""
    engines: tuple[Availability, ...]
    models: tuple[ModelReport, ...]
    default_model: str
    num_running: int
    num_waiting: int
    is_draining: bool
    requests_per_second: float | None
    alerts: tuple[FiringAlert, ...] | None
    tuner: TunerReport | None
