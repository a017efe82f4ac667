"""Tells the client what it did not name: who answers, why, and in whose place.

In headers, as far as it is known before the first byte, and in the field ``muai`` of the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.api.workflow_format import write_failed
from mm_orch.workflows.as_models import WorkflowGeneration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.effects import Effect
    from mm_orch.core.routing import Routing
    from mm_orch.orchestration.generation import Answered

_MAX_REASON_CHARS = 200


def headers_of(generations: Sequence[Answered]) -> dict[str, str]:
    """Return the headers that say who answers, as known before the first byte."""
    first = generations[0]
    headers = {"x-muai-model": first.model, "x-muai-engine": first.engine}
    told = [_as_header(one.from_engine, one.to_engine, one.reason) for one in first.failovers]
    if first.fallback is not None:
        fallback = first.fallback
        told.append(_as_header(fallback.wanted, fallback.engine, fallback.reason))
    if told:
        headers["x-muai-fallback"] = ", ".join(dict.fromkeys(told))
    return headers | route_header(first.routing) | effects_header(_effects_of(generations))


def route_header(routing: Routing) -> dict[str, str]:
    """Return the header that says what was chosen and why; none where nothing was."""
    told = []
    if (workflow := routing.workflow) is not None:
        sure = f"confidence={workflow.confidence:.2f}"
        reason = _quote(workflow.reason)
        told.append(f"workflow={workflow.workflow}; by={workflow.by}; {sure}; reason={reason}")
    if (model := routing.model) is not None:
        told.append(f"model={model.model}; by={model.by}; reason={_quote(model.reason)}")
    return {"x-muai-route": ", ".join(told)} if told else {}


def effects_header(effects: Sequence[Effect]) -> dict[str, str]:
    """Return the header that says what was set that the caller had left open; none for nothing."""
    told = [
        f"{one.what}={_quote(str(one.value))}; by={one.by}; reason={_quote(one.reason)}"
        for one in effects
    ]
    return {"x-muai-effects": ", ".join(told)} if told else {}


def note_on(generations: Sequence[Answered]) -> dict[str, Any]:
    """Return the ``muai`` field of an answer.

    It is there where a worker was lost on the way, something was chosen or set, or the answer of a
    workflow is without something.
    """
    failovers = [
        {
            "from": one.from_engine,
            "to": one.to_engine,
            "delivered_tokens": one.num_delivered_tokens,
            "reason": one.reason,
        }
        for generation in generations
        for one in generation.failovers
    ]
    note: dict[str, Any] = {"failovers": failovers} if failovers else {}
    routing = generations[0].routing
    if not routing.is_empty:
        note["routing"] = routing.describe()
    if effects := _effects_of(generations):
        note["effects"] = msgspec.to_builtins(effects)
    if failed := [step for run in _runs_among(generations) for step in run.failed]:
        note["failed_steps"] = write_failed(failed)
    return {"muai": note} if note else {}


def _effects_of(generations: Sequence[Answered]) -> list[Effect]:
    return [effect for run in _runs_among(generations) for effect in run.effects]


def _runs_among(generations: Sequence[Answered]) -> list[WorkflowGeneration]:
    return [one for one in generations if isinstance(one, WorkflowGeneration)]


def _as_header(from_engine: str, to_engine: str, reason: str) -> str:
    return f"{from_engine}->{to_engine}; reason={_quote(reason)}"


def _quote(reason: str) -> str:
    # Whatever a library wrote must not end the header.
    line = reason.partition("\n")[0].encode("ascii", "replace").decode()
    plain = "".join(char for char in line if char.isprintable() and char not in '"\\')
    return f'"{plain[:_MAX_REASON_CHARS]}"'
