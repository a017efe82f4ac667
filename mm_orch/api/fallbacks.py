"""Tells the client when another engine answered than the preferred one: headers, ``muai`` field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    return headers


def note_on(generations: Sequence[Answered]) -> dict[str, Any]:
    """Return the ``muai`` field of an answer whose worker was lost on the way; else nothing."""
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
    return {"muai": {"failovers": failovers}} if failovers else {}


def _as_header(from_engine: str, to_engine: str, reason: str) -> str:
    # Whatever a library wrote must not end the header.
    line = reason.partition("\n")[0].encode("ascii", "replace").decode()
    quoted = "".join(char for char in line if char.isprintable() and char not in '"\\')
    return f'{from_engine}->{to_engine}; reason="{quoted[:_MAX_REASON_CHARS]}"'
