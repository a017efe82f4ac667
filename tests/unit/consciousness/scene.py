"""A mind with scripted senses, at a time that a test sets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mm_orch.consciousness.goals import Goals
from mm_orch.consciousness.mind import Mind, MindSettings, Senses
from mm_orch.consciousness.stages import StageRules
from mm_orch.core.events import RequestFinished, RequestStatus
from mm_orch.core.mind_report import WorkflowFacts
from mm_orch.core.workflow_events import WorkflowFinished
from mm_orch.optimization.engines.contract import Availability
from mm_orch.orchestration.reports import HealthReport, HealthStatus, ModelReport, StatusReport
from mm_orch.storage.outcomes import Outcome
from mm_orch.workers.phase import ModelPhase
from tests.unit.api.scripted_generator import EventList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.storage.outcomes import OutcomeStore

SETTINGS = MindSettings(
    goals=Goals(),
    rules=StageRules(
        workflows_by_stage=(("chat_generate", "self_description"), ("rag_qa",), ("*",)),
        min_successes=5,
        min_success_ratio=0.5,
    ),
    has_emotions=False,
    mood_half_life_s=3600.0,
    max_temperature_offset=0.1,
    is_gating=False,
    memory_half_life_s=86_400.0,
)
STATUS = StatusReport(
    health=HealthReport(
        status=HealthStatus.DEGRADED,
        degradation_reasons=("model large is failed: no memory",),
        uptime_seconds=60.0,
        models_loaded=("small",),
        engines_available=("echo",),
        engines=(),
        queue_size=1,
        queue_capacity=100,
        version="1.2.3",
    ),
    is_ready=True,
    engines=(
        Availability(engine="echo", is_available=True),
        Availability(engine="vllm", is_available=False, reason="vllm is not installed"),
    ),
    models=(
        ModelReport(
            name="small", aliases=(), source="path:s", phase=ModelPhase.READY, engine="echo"
        ),
        ModelReport(
            name="large",
            aliases=(),
            source="path:l",
            phase=ModelPhase.FAILED,
            detail="no memory\nworker's log",
        ),
        ModelReport(name="spare", aliases=(), source="path:p", phase=ModelPhase.UNLOADED),
    ),
    default_model="small",
    num_running=2,
    num_waiting=1,
    is_draining=False,
    requests_per_second=None,
    alerts=None,
    tuner=None,
)
WORKFLOWS = (
    WorkflowFacts(name="chat_generate", state="available", summary="Chats.", detail=""),
    WorkflowFacts(name="my_plugin", state="broken", summary="", detail="It cannot be imported."),
    WorkflowFacts(name="rag_qa", state="available", summary="Reads documents.", detail=""),
)


@dataclass
class Scene:
    """A mind, and the clock that it reads.

    Attributes:
        now_s: seconds since 1970.
        told: what the mind has stated.
    """

    settings: MindSettings = SETTINGS
    store: OutcomeStore | None = None
    now_s: float = 1_000_000.0
    status: StatusReport = STATUS
    workflows: Sequence[WorkflowFacts] = WORKFLOWS
    told: EventList = field(default_factory=EventList)
    mind: Mind = field(init=False)

    def __post_init__(self) -> None:
        self.mind = Mind(
            self.settings,
            Senses(
                find_status=lambda: self.status,
                find_workflows=self._find_workflows,
                features={"workflows": True, "monitoring": False},
                now=lambda: self.now_s,
            ),
            observer=self.told,
            store=self.store,
        )

    async def _find_workflows(self) -> Sequence[WorkflowFacts]:
        return self.workflows


def gating(**changes: Any) -> MindSettings:
    """Return settings with which later stages are refused."""
    return replace(SETTINGS, is_gating=True, **changes)


def generated(request_id: str = "r1", **fields: Any) -> RequestFinished:
    """Return how a request to a model ended: well, if not said otherwise."""
    return RequestFinished(
        **{
            "request_id": request_id,
            "model": "small",
            "engine": "echo",
            "status": RequestStatus.SUCCESS,
            "total_s": 2.0,
            "num_prompt_tokens": 7,
            "num_generated_tokens": 3,
            "caller": "alice",
            **fields,
        }
    )


def ran(request_id: str = "r1", **fields: Any) -> WorkflowFinished:
    """Return how a run of a workflow ended: well, if not said otherwise."""
    return WorkflowFinished(
        **{
            "request_id": request_id,
            "workflow": "chat_generate",
            "status": "success",
            "is_partial": False,
            "total_s": 3.0,
            "num_prompt_tokens": 7,
            "num_generated_tokens": 3,
            "caller": "alice",
            "model": "small",
            **fields,
        }
    )


def outcome(**fields: Any) -> Outcome:
    """Return an outcome of a run."""
    return Outcome(
        **{
            "kind": "run",
            "request_id": "r1",
            "caller": "alice",
            "workflow": "chat_generate",
            "model": "small",
            "at_s": 0.0,
            "is_success": True,
            "latency_s": 2.0,
            "num_tokens": 10,
            **fields,
        }
    )
