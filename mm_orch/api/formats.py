"""Writes answers in OpenAI's words: whole ones and chunks, for chats and for completions."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.generation import TextDelta, TextLogprob, Usage

Json = dict[str, Any]


@dataclass(slots=True)
class WholeChoice:
    """One answer, put together from its deltas."""

    text: str = ""
    logprobs: list[TextLogprob] = field(default_factory=list)
    has_logprobs: bool = False
    finish_reason: str | None = None

    def add(self, delta: TextDelta) -> None:
        """Take the next delta."""
        self.text += delta.text
        if delta.logprobs is not None:
            self.has_logprobs = True
            self.logprobs.extend(delta.logprobs)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason.value


class AnswerFormat(Protocol):
    """How one kind of answer is written."""

    def opening(self, num_choices: int) -> list[Json]:
        """Chunks that come before any text."""

    def chunk(self, delta: TextDelta) -> Json:
        """One delta as a chunk."""

    def usage_chunk(self, usage: Usage) -> Json:
        """The last chunk, where usage was asked for."""

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Json:
        """The whole answer."""


class ChatFormat:
    """chat.completion and chat.completion.chunk objects."""

    def __init__(self, model: str) -> None:
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model

    def opening(self, num_choices: int) -> list[Json]:
        """Say for each choice that the assistant speaks."""
        return [
            self._chunk(index, {"role": "assistant", "content": ""}, None, None)
            for index in range(num_choices)
        ]

    def chunk(self, delta: TextDelta) -> Json:
        """One delta as a chunk; the last of a choice may be without content."""
        reason = delta.finish_reason.value if delta.finish_reason else None
        content = {"content": delta.text} if delta.text or reason is None else {}
        logprobs = None if delta.logprobs is None else _chat_logprobs(delta.logprobs)
        return self._chunk(delta.index, content, logprobs, reason)

    def usage_chunk(self, usage: Usage) -> Json:
        """A chunk without choices."""
        return self._envelope("chat.completion.chunk", []) | {"usage": usage_of(usage)}

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Json:
        """The whole answer."""
        written = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": _chat_logprobs(choice.logprobs) if choice.has_logprobs else None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ]
        return self._envelope("chat.completion", written) | {"usage": usage_of(usage)}

    def _chunk(self, index: int, delta: Json, logprobs: Json | None, reason: str | None) -> Json:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        return self._envelope("chat.completion.chunk", [choice])

    def _envelope(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


class CompletionFormat:
    """text_completion objects, the same for chunks and whole answers."""

    def __init__(self, model: str) -> None:
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._num_chars: dict[int, int] = {}

    def opening(self, num_choices: int) -> list[Json]:
        """Nothing comes before the text."""
        del num_choices
        return []

    def chunk(self, delta: TextDelta) -> Json:
        """One delta as a chunk."""
        offset = self._num_chars.get(delta.index, 0)
        self._num_chars[delta.index] = offset + len(delta.text)
        logprobs = None
        if delta.logprobs is not None:
            logprobs = _completion_logprobs(delta.logprobs, offset)
        reason = delta.finish_reason.value if delta.finish_reason else None
        return self._envelope([_completion_choice(delta.index, delta.text, logprobs, reason)])

    def usage_chunk(self, usage: Usage) -> Json:
        """A chunk without choices."""
        return self._envelope([]) | {"usage": usage_of(usage)}

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Json:
        """The whole answer."""
        written = [
            _completion_choice(
                index,
                choice.text,
                _completion_logprobs(choice.logprobs, 0) if choice.has_logprobs else None,
                choice.finish_reason,
            )
            for index, choice in enumerate(choices)
        ]
        return self._envelope(written) | {"usage": usage_of(usage)}

    def _envelope(self, choices: list[Json]) -> Json:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def usage_of(usage: Usage) -> Json:
    """Write usage."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_generated_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_generated_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
    }


def _chat_logprobs(logprobs: Sequence[TextLogprob]) -> Json:
    content = [
        {
            "token": told.token,
            "bytes": list(told.token_bytes),
            "logprob": told.logprob,
            "top_logprobs": [
                {"token": token, "bytes": list(token_bytes), "logprob": logprob}
                for token, token_bytes, logprob in told.top
            ],
        }
        for told in logprobs
    ]
    return {"content": content, "refusal": None}


def _completion_logprobs(logprobs: Sequence[TextLogprob], offset: int) -> Json:
    offsets = []
    for told in logprobs:
        offsets.append(offset)
        offset += len(told.token)
    return {
        "tokens": [told.token for told in logprobs],
        "token_logprobs": [told.logprob for told in logprobs],
        "top_logprobs": [
            {token: logprob for token, _, logprob in told.top} or None for told in logprobs
        ],
        "text_offset": offsets,
    }


def _completion_choice(index: int, text: str, logprobs: Json | None, reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
