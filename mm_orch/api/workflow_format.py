"""Writes what workflows tell and answer in the words of the native API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.api.formats import encode_event, usage_of
from mm_orch.workflows.contract import ANSWER, CONFIDENCE, KEPT, SOURCES
from mm_orch.workflows.graph_progress import (
    AnswerPiece,
    StepEnded,
    StepFailed,
    StepSkipped,
    StepStarted,
    ThoughtPiece,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.api.formats import Json
    from mm_orch.workflows.contract import Source
    from mm_orch.workflows.graph_progress import FailedStep, Progress
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.run import WorkflowRun


def write_progress(event: Progress) -> bytes:
    """Return an event of the stream: ``piece``, ``thought`` or ``step``."""
    match event:
        case AnswerPiece(text):
            return encode_event({"text": text}, name="piece")
        case ThoughtPiece(text):
            return encode_event({"text": text}, name="thought")
        case StepStarted():
            return _step_event(event.step, "started")
        case StepEnded():
            said = [event.remark, *[str(one) for one in event.lacking]]
            return _step_event(event.step, "ended", event.duration_s, " ".join(filter(None, said)))
        case StepFailed():
            status = "retried" if event.will_retry else "failed"
            return _step_event(event.step, status, event.duration_s, str(event.error))
        case StepSkipped():
            return _step_event(event.step, "skipped", message=_say_missing(event))


def write_result(run: WorkflowRun, *, request_id: str, processing_s: float) -> Json:
    """Return the result of a run that has ended well, whole or partial."""
    outcome = run.outcome
    answer, kept = outcome.values[ANSWER], outcome.values.find(KEPT)
    sure, own = answer.confidence, outcome.values.find(CONFIDENCE)
    # What a workflow measures of its sources was never fitted to answers that were right or wrong.
    is_calibrated = False if own is not None else None
    turn = None if kept is None else kept.turn
    return {
        "result": answer.text,
        "workflow_type": run.workflow.name,
        "status": _status_of(outcome),
        "metadata": {
            "model": answer.model,
            "engine": answer.engine,
            "confidence": own if sure is None else sure.value,
            "calibrated": is_calibrated if sure is None else sure.is_calibrated,
            "unsure": None if sure is None else sure.is_unsure,
            "routing": run.routing.describe(),
            "processing_time": processing_s,
            "sources": [_write_source(one) for one in outcome.values.find(SOURCES) or ()],
            "reasoning": answer.reasoning or None,
            "finish_reason": answer.finish_reason.value,
            "usage": usage_of(run.models.usage),
            "session_id": None if turn is None else turn.session_id,
            "turn_count": None if turn is None else turn.num_turns,
            "failed_steps": write_failed(outcome.failed),
            "skipped_steps": list(outcome.skipped),
            "remarks": [{"step": one.step, "message": one.text} for one in outcome.remarks],
            "effects": msgspec.to_builtins(list(run.effects)),
        },
        "request_id": request_id,
    }


def write_documents_answer(run: WorkflowRun, *, request_id: str) -> Json:
    """Return the answer to POST /api/rag/query."""
    outcome = run.outcome
    return {
        "answer": outcome.values[ANSWER].text,
        "sources": [_write_source(one) for one in outcome.values.find(SOURCES) or ()],
        "confidence": outcome.values.find(CONFIDENCE),
        "status": _status_of(outcome),
        "failed_steps": write_failed(outcome.failed),
        "request_id": request_id,
    }


def write_failed(failed: Sequence[FailedStep]) -> list[Json]:
    """Return what a result is without, and why."""
    return [{"step": one.step, "message": str(one.error)} for one in failed]


def _status_of(outcome: Outcome) -> str:
    return "partial" if outcome.is_partial else "success"


def _write_source(source: Source) -> Json:
    return {"content": source.content, "score": source.score, "metadata": dict(source.metadata)}


def _say_missing(event: StepSkipped) -> str:
    return f"It needs {', '.join(event.missing)}, which was not written."


def _step_event(
    step: str, status: str, duration_s: float | None = None, message: str = ""
) -> bytes:
    told = {"step": step, "status": status, "duration_s": duration_s, "message": message}
    return encode_event(told, name="step")
