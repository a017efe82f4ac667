"""A story that touches every series: one model loads, answers, fails, restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.events import (
    AlertChanged,
    CacheUsed,
    CircuitChanged,
    EngineFellBack,
    ErrorOccurred,
    FirstTokenProduced,
    GpuReading,
    HttpRequestFinished,
    LoadChanged,
    ModelLoaded,
    RequestFinished,
    RequestStarted,
    RequestStatus,
    ResourcesRead,
    StepCompleted,
    TokenGap,
    WorkerRestarted,
    WorkerStateChanged,
)
from mm_orch.core.fleet_events import EndpointChanged, EndpointChosen
from mm_orch.core.mind_events import FeedbackTaken, MindMoved
from mm_orch.core.placement_events import (
    RequestFailedOver,
    RequestRedirected,
    WorkerMoved,
    WorkerPlaced,
)
from mm_orch.core.routing import RankedWorkflow, Routing, WorkflowChoice
from mm_orch.core.scaling_events import ReplicasScaled, ScaledLoadRead
from mm_orch.core.workflow_events import WorkflowFinished, WorkflowRouted

if TYPE_CHECKING:
    from mm_orch.core.events import Event

MODEL = "small"
ENGINE = "pytorch"
WORKFLOW = "chat_generate"


def routed(workflow: str = WORKFLOW) -> WorkflowRouted:
    choice = WorkflowChoice(
        workflow=workflow,
        confidence=0.9,
        by="learned",
        reason="So.",
        alternatives=(RankedWorkflow(workflow=workflow, score=0.9),),
    )
    return WorkflowRouted(
        request_id="r1",
        workflow=workflow,
        routing=Routing(workflow=choice),
        begin_s=10.0,
        duration_s=0.001,
    )


def run_finished(
    status: str = "success", *, workflow: str = WORKFLOW, is_partial: bool = False
) -> WorkflowFinished:
    return WorkflowFinished(
        request_id="r1", workflow=workflow, status=status, is_partial=is_partial, total_s=2.0
    )


def finished(
    status: RequestStatus = RequestStatus.SUCCESS,
    *,
    request_id: str = "r1",
    model: str = MODEL,
    engine: str = ENGINE,
    error_type: str | None = None,
    num_generated_tokens: int = 20,
    total_s: float = 1.5,
    workflow: str = "",
) -> RequestFinished:
    return RequestFinished(
        request_id=request_id,
        model=model,
        engine=engine,
        status=status,
        total_s=total_s,
        num_prompt_tokens=7,
        num_generated_tokens=num_generated_tokens,
        num_cached_tokens=3,
        queue_wait_s=0.02,
        ttft_s=0.3,
        error_type=error_type,
        finish_reasons=("stop",),
        workflow=workflow,
    )


GPU = GpuReading(
    gpu_id="0",
    used_bytes=6 << 30,
    total_bytes=24 << 30,
    utilization_percent=80.0,
    temperature_celsius=65.0,
    power_watts=250.0,
)


def story() -> list[Event]:
    of_model = {"model": MODEL, "engine": ENGINE}
    return [
        WorkerStateChanged(**of_model, is_up=True),
        ModelLoaded(**of_model, duration_s=4.0),
        LoadChanged(model=MODEL, num_running=2, num_waiting=5),
        RequestStarted(request_id="r1", **of_model, queue_wait_s=0.02),
        StepCompleted(**of_model, phase="prefill", batch_size=2, duration_s=0.2),
        FirstTokenProduced(request_id="r1", **of_model, ttft_s=0.3),
        StepCompleted(**of_model, phase="decode", batch_size=2, duration_s=0.04),
        TokenGap(**of_model, seconds_per_token=0.05, num_tokens=3),
        finished(),
        finished(RequestStatus.ERROR, error_type="EngineFailedError", num_generated_tokens=4),
        HttpRequestFinished(
            route="/v1/chat/completions", method="POST", status=200, duration_s=1.6
        ),
        ErrorOccurred(component="worker", error_type="EngineCrashedError"),
        WorkerStateChanged(**of_model, is_up=False, reason="killed"),
        CircuitChanged(**of_model, state="open"),
        EngineFellBack(model=MODEL, from_engine=ENGINE, to_engine="spare", reason="killed"),
        RequestFailedOver(
            request_id="r1",
            model=MODEL,
            from_engine=ENGINE,
            to_engine="spare",
            num_delivered_tokens=4,
            reason="killed",
        ),
        RequestRedirected(
            request_id="r2", model=MODEL, from_engine=ENGINE, to_engine="spare", reason="a shape"
        ),
        WorkerRestarted(**of_model),
        WorkerMoved(model=MODEL, replica=0, gpu_id="1", reason="GPU 1 is lost"),
        WorkerPlaced(**of_model, replica=0, gpu_ids=("0",), lesser="runs on 1 GPU"),
        CacheUsed(**of_model, use_ratio=0.25, num_evictions=3),
        MindMoved(valence=0.5, arousal=-0.25, stage=1),
        FeedbackTaken(score=1.0),
        AlertChanged(
            alert_type="high_latency",
            severity="warning",
            is_firing=True,
            is_new=True,
            **of_model,
            message="slow",
        ),
        ResourcesRead(
            cpu_percent=42.0,
            memory_used_bytes=3 << 30,
            memory_total_bytes=8 << 30,
            gpus=(GPU,),
        ),
    ]


def happened_beside() -> list[Event]:
    """What happened to the model's servers elsewhere, and to the number of its replicas."""
    return [
        EndpointChanged(
            model=MODEL, address="http://gpu-1", change="joined", num_by_state={"ready": 2}
        ),
        EndpointChosen(model=MODEL, address="http://gpu-1", rule="prefix", num_queued_tokens=0),
        ReplicasScaled(model=MODEL, direction="up", count=2),
        ScaledLoadRead(model=MODEL, num_wanted=2, wait_s=0.5),
    ]
