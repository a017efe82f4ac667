"""What the system tells of itself, in the shapes that the HTTP face answers with."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A configured model.

    Attributes:
        task: generate or embed.
        state: loaded, loadable (the next request loads it), loading, or failing.
        engine: that runs it; None while none does.
        detail: why it fails, in one line; or empty.
    """

    name: str
    task: str
    state: Literal["loaded", "loadable", "loading", "failing"]
    engine: str | None
    detail: str


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of engine, and why it cannot run here; or empty."""

    name: str
    is_available: bool
    reason: str


class WorkflowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that is installed.

    Attributes:
        state: available, gated (see the stage), or broken.
        summary: what it does; empty where it is broken.
        detail: why it is not available; or empty.
    """

    name: str
    state: Literal["available", "gated", "broken"]
    summary: str
    detail: str


class SelfModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the system can do at this moment.

    Attributes:
        health: healthy, degraded or unhealthy.
        health_reasons: why it is not healthy.
        is_ready: a request sent now would be served.
        not_ready_because: why not; or empty.
        default_model: answers where none is named.
        num_running: requests that are answered now.
        num_waiting: that wait for their turn.
        queue_capacity: how many may.
        features: what may be switched off, by name, and whether it is on.
    """

    health: str
    health_reasons: tuple[str, ...]
    is_ready: bool
    not_ready_because: str
    version: str
    uptime_s: float
    default_model: str
    models: tuple[ModelFacts, ...]
    engines: tuple[EngineFacts, ...]
    workflows: tuple[WorkflowFacts, ...]
    num_running: int
    num_waiting: int
    queue_capacity: int
    features: dict[str, bool]


class GoalsReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much each goal counts, 0 to 1 and 1 together."""

    quality: float
    latency: float
    cost: float


class MoodReport(msgspec.Struct, frozen=True, kw_only=True):
    """The mood at this moment, each number from -1 to 1.

    Attributes:
        valence: below 0 after failures, above after successes.
        arousal: above 0 after failures and feedback, below while all is routine.
        has_effects: it may change how conversations are answered.
        instruction: what a conversation without instructions would begin with now; or empty.
        temperature_offset: what would be added to the default temperature now.
    """

    valence: float
    arousal: float
    half_life_s: float
    has_effects: bool
    instruction: str
    temperature_offset: float


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """A stage and the workflows that it allows beside those of the stages before; ``*`` is all."""

    number: int
    workflows: tuple[str, ...]


class DevelopmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which stage has been reached, and what leads to the next.

    Attributes:
        is_gating: workflows of later stages are refused.
        num_runs: since the stage was reached, of those that a model answered.
        num_successes: of them.
        lower_bound: of the share of successes; see ``min_success_ratio``.
        min_successes: what the next stage needs.
        min_success_ratio: what the lower bound must reach.
    """

    is_gating: bool
    stage: int
    stages: tuple[StageReport, ...]
    num_runs: int
    num_successes: int
    lower_bound: float
    min_successes: int
    min_success_ratio: float


class OutcomeStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the outcomes of one workflow or model, each weighed by its age.

    Attributes:
        num_outcomes: how many are remembered.
        weight: the sum of their weights: how many outcomes of just now they are worth.
        success_ratio: 0 to 1.
        latency_s: of those that succeeded; None where none did, as are the tokens.
        num_tokens: of those that succeeded, prompts and answers.
        confidence: of those that measured it; None where none did.
        feedback: of those that had any, -1 to 1; None where none had.
    """

    num_outcomes: int
    weight: float
    success_ratio: float
    latency_s: float | None
    num_tokens: float | None
    confidence: float | None
    feedback: float | None


class MemoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What past outcomes say.

    Attributes:
        is_stored: they outlast the process.
        problem: why they cannot be stored now; or empty.
        half_life_s: an outcome this old weighs half.
        workflows: by name, over whole runs.
        models: by name, over single generations.
    """

    is_stored: bool
    problem: str
    half_life_s: float
    workflows: dict[str, OutcomeStatistics]
    models: dict[str, OutcomeStatistics]


class MindReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the system knows of itself."""

    self_model: SelfModel
    goals: GoalsReport
    mood: MoodReport
    development: DevelopmentReport
    memory: MemoryReport


class MindReports(Protocol):
    """Answers what the system knows of itself, and hears what callers thought of answers."""

    async def report(self) -> MindReport:
        """Gather everything, as it is now."""

    async def take_feedback(self, caller: str, request_id: str, score: float) -> None:
        """Note what a caller thought of the answer to its own request.

        Args:
            caller: name of the key.
            request_id: of the request.
            score: -1 to 1.

        Raises:
            RequestNotFoundError: the caller has made none of this name, or not recently.
        """
