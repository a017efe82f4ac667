"""Writes prompts and answers as OpenTelemetry's messages, where the operator has asked for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Collectors refuse exports of more than 4 MiB, and one carries many requests.
_MAX_CHARS = 16_384


def input_messages(prompt: str) -> str:
    """Return the JSON of ``gen_ai.input.messages``.

    Args:
        prompt: a chat's messages as JSON, or any text.
    """
    return _write([(told["role"], told.get("content") or "") for told in _read(prompt)], ())


def output_messages(answers: Sequence[str], finish_reasons: Sequence[str]) -> str:
    """Return the JSON of ``gen_ai.output.messages``, one message a choice."""
    return _write([("assistant", answer) for answer in answers], finish_reasons)


def _read(prompt: str) -> list[dict[str, Any]]:
    try:
        told = json.loads(prompt)
    except ValueError:
        told = None
    is_chat = isinstance(told, list) and all(
        isinstance(one, dict) and isinstance(one.get("role"), str) for one in told
    )
    return told if is_chat else [{"role": "user", "content": prompt}]


def _write(turns: Sequence[tuple[str, str]], finish_reasons: Sequence[str]) -> str:
    num_left = _MAX_CHARS
    messages: list[dict[str, Any]] = []
    for index, (role, text) in enumerate(turns):
        parts = [{"type": "text", "content": text[:num_left]}]
        num_left = max(0, num_left - len(text))
        messages.append({"role": role, "parts": parts})
        if index < len(finish_reasons):
            messages[-1]["finish_reason"] = finish_reasons[index]
    return encodable(json.dumps(messages, ensure_ascii=False))


def encodable(text: str) -> str:
    """Return the text without halves of characters, of which one would undo a whole export."""
    return text.encode(errors="replace").decode()
