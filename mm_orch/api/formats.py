"""Writes answers in OpenAI's words: whole ones and chunks, for chats and for completions."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mm_orch.core.tools import ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.generation import TextDelta, TextLogprob, Usage

Json = dict[str, Any]

_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class WholeCall:
    """One call of a function, put together from its deltas."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def add(self, delta: ToolCallDelta) -> None:
        """Take the next delta."""
        self.id += delta.id
        self.name += delta.name
        self.arguments += delta.arguments


@dataclass(slots=True)
class WholeChoice:
    """One answer, put together from its deltas."""

    text: str = ""
    reasoning: str = ""
    calls: list[WholeCall] = field(default_factory=list)
    logprobs: list[TextLogprob] = field(default_factory=list)
    has_logprobs: bool = False
    finish_reason: str | None = None

    def add(self, delta: TextDelta) -> None:
        """Take the next delta."""
        self.text += delta.text
        self.reasoning += delta.reasoning
        for call in delta.tool_calls:
            if call.index == len(self.calls):
                self.calls.append(WholeCall())
            self.calls[call.index].add(call)
        if delta.logprobs is not None:
            self.has_logprobs = True
            self.logprobs.extend(delta.logprobs)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason.value

    def call_deltas(self) -> tuple[ToolCallDelta, ...]:
        """Return each call as one delta."""
        return tuple(
            ToolCallDelta(index=index, id=call.id, name=call.name, arguments=call.arguments)
            for index, call in enumerate(self.calls)
        )


class AnswerFormat(Protocol):
    """How one kind of answer is written."""

    def opening(self, num_choices: int) -> list[Json]:
        """Events that come before any text."""

    def chunks(self, delta: TextDelta) -> list[Json]:
        """One delta as events."""

    def closing(self, usage: Usage) -> list[Json]:
        """Events that come after all deltas."""

    def failure(self, error: Json) -> Json:
        """The last event of an answer that broke off; ``error`` is an envelope."""

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Json:
        """The whole answer."""

    def event(self, content: Json) -> bytes:
        """One event as it is sent."""

    @property
    def end(self) -> bytes:
        """What is sent after the last event of an answer that is complete."""


class _Chunked:
    """What chats and completions share: nameless events, a mark at the end, usage on demand."""

    end = b"data: [DONE]\n\n"

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage

    def failure(self, error: Json) -> Json:
        """The envelope stands for itself."""
        return error

    def event(self, content: Json) -> bytes:
        """One event as it is sent."""
        # As OpenAI has it: who asked for usage is told in each chunk that it is not there yet.
        is_bare = self._wants_usage and not content.keys() & {"usage", "error"}
        return encode_event({**content, "usage": None} if is_bare else content)


class ChatFormat(_Chunked):
    """chat.completion and chat.completion.chunk objects."""

    def __init__(self, model: str, *, wants_usage: bool = False) -> None:
        super().__init__(wants_usage=wants_usage)
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model

    def opening(self, num_choices: int) -> list[Json]:
        """Say for each choice that the assistant speaks."""
        return [
            self._chunk(index, {"role": "assistant", "content": ""}, None, None)
            for index in range(num_choices)
        ]

    def chunks(self, delta: TextDelta) -> list[Json]:
        """One delta, each kind of news in a chunk of its own; the last has the reason."""
        pieces: list[Json] = [{"reasoning_content": delta.reasoning}] if delta.reasoning else []
        pieces += [{"content": delta.text}] if delta.text else []
        pieces += [{"tool_calls": [_call_delta(call)]} for call in delta.tool_calls]
        reason = delta.finish_reason.value if delta.finish_reason else None
        first, *others = pieces or [{} if reason else {"content": ""}]
        logprobs = None if delta.logprobs is None else _chat_logprobs(delta.logprobs)
        chunks = [self._chunk(delta.index, first, logprobs, None)]
        chunks += [self._chunk(delta.index, piece, None, None) for piece in others]
        chunks[-1]["choices"][0]["finish_reason"] = reason
        return chunks

    def closing(self, usage: Usage) -> list[Json]:
        """A chunk without choices, where usage was asked for."""
        told = self._envelope("chat.completion.chunk", []) | {"usage": usage_of(usage)}
        return [told] if self._wants_usage else []

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Json:
        """The whole answer."""
        written = [
            {
                "index": index,
                "message": _message_of(choice),
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


class CompletionFormat(_Chunked):
    """text_completion objects, the same for chunks and whole answers."""

    def __init__(self, model: str, *, wants_usage: bool = False) -> None:
        super().__init__(wants_usage=wants_usage)
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._num_chars: dict[int, int] = {}

    def opening(self, num_choices: int) -> list[Json]:
        """Nothing comes before the text."""
        del num_choices
        return []

    def chunks(self, delta: TextDelta) -> list[Json]:
        """One delta as a chunk."""
        offset = self._num_chars.get(delta.index, 0)
        self._num_chars[delta.index] = offset + len(delta.text)
        logprobs = None
        if delta.logprobs is not None:
            logprobs = _completion_logprobs(delta.logprobs, offset)
        reason = delta.finish_reason.value if delta.finish_reason else None
        return [self._envelope([_completion_choice(delta.index, delta.text, logprobs, reason)])]

    def closing(self, usage: Usage) -> list[Json]:
        """A chunk without choices, where usage was asked for."""
        return [self._envelope([]) | {"usage": usage_of(usage)}] if self._wants_usage else []

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
        "completion_tokens_details": {"reasoning_tokens": usage.num_reasoning_tokens},
    }


def encode_event(content: Json, *, name: str | None = None) -> bytes:
    """Write one server-sent event."""
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + _encoder.encode(content) + b"\n\n"


def _message_of(choice: WholeChoice) -> Json:
    # OpenAI's answers that only call have no content.
    message: Json = {
        "role": "assistant",
        "content": None if choice.calls and not choice.text else choice.text,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.calls
        ]
    return message


def _call_delta(call: ToolCallDelta) -> Json:
    if not call.id:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


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
