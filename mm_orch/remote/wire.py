"""Our requests in OpenAI's words, and OpenAI's chunks in ours: pure translation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import EngineFailedError
from mm_orch.core.generation import (
    ChatPrompt,
    FinishReason,
    GenerationOptions,
    TextDelta,
    TextLogprob,
    TextPrompt,
    TokensPrompt,
    Usage,
)
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.core.tools import ToolCallDelta, ToolChoice

if TYPE_CHECKING:
    from mm_orch.core.generation import GenerationRequest, Message
    from mm_orch.core.guide import JsonObjectShape
    from mm_orch.core.tools import ToolUse

Json = dict[str, Any]

# What stands in the place of an engine's name for a model of another server.
ENGINE = "remote"
CHAT_PATH = "/chat/completions"
TEXT_PATH = "/completions"
_PLAIN = GenerationOptions()
# Their names for what they take under a name of their own.
_RENAMED = {"num_choices": "n"}
_SAME_NAME = (
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "ignore_eos",
)
_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    # What a filter has cut has ended; there is no word of ours that says more.
    "content_filter": FinishReason.STOP,
}


def path_of(request: GenerationRequest) -> str:
    """Return the path under the server's /v1 that takes this request."""
    return CHAT_PATH if isinstance(request.prompt, ChatPrompt) else TEXT_PATH


def body_of(request: GenerationRequest, model: str) -> Json:
    """Return the body of the streamed request; what has its default value is left out.

    So a server that does not know a parameter refuses it only where it was asked for.
    """
    options, body = request.options, _prompt_of(request)
    for field in (*_SAME_NAME, *_RENAMED):
        value = getattr(options, field)
        if value is not None and value != getattr(_PLAIN, field):
            body[_RENAMED.get(field, field)] = value
    if options.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in options.logit_bias.items()}
    if options.stop:
        body["stop"] = list(options.stop)
    if options.num_logprobs is not None:
        is_chat = isinstance(request.prompt, ChatPrompt)
        body |= (
            {"logprobs": True, "top_logprobs": options.num_logprobs}
            if is_chat
            else {"logprobs": options.num_logprobs}
        )
    if options.guide is not None:
        body["response_format"] = _format_of(options.guide)
    return body | {"model": model, "stream": True, "stream_options": {"include_usage": True}}


def read_deltas(chunk: Any) -> list[TextDelta]:
    """Return what a chunk says of each choice.

    Raises:
        EngineFailedError: it is no chunk, or tells of an error.
    """
    if not isinstance(chunk, dict):
        raise _no_chunk(chunk)
    if "error" in chunk:
        error = chunk["error"]
        message = error.get("message") if isinstance(error, dict) else error
        raise EngineFailedError(f"The remote server broke off: {message}")
    try:
        return [_delta_of(choice) for choice in chunk.get("choices") or ()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_chunk(chunk) from error


def read_usage(chunk: Json) -> Usage | None:
    """Return the usage that a chunk tells, where it tells any.

    Raises:
        EngineFailedError: what it tells are no counts.
    """
    told = chunk.get("usage")
    if not isinstance(told, dict):
        return None
    try:
        of_prompt = told.get("prompt_tokens_details") or {}
        of_answer = told.get("completion_tokens_details") or {}
        return Usage(
            num_prompt_tokens=int(told.get("prompt_tokens") or 0),
            num_generated_tokens=int(told.get("completion_tokens") or 0),
            num_cached_tokens=int(of_prompt.get("cached_tokens") or 0),
            num_reasoning_tokens=int(of_answer.get("reasoning_tokens") or 0),
        )
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise _no_chunk(chunk) from error


def _no_chunk(told: object) -> EngineFailedError:
    return EngineFailedError(f"The remote server sent a chunk that is none: {str(told)[:200]}")


def _prompt_of(request: GenerationRequest) -> Json:
    match request.prompt:
        case ChatPrompt(messages, tool_use):
            body: Json = {"messages": [_message_of(message) for message in messages]}
            return body | (_tools_of(tool_use) if tool_use is not None else {})
        case TextPrompt(text):
            return {"prompt": text}
        case TokensPrompt(token_ids):
            return {"prompt": list(token_ids)}


def _message_of(message: Message) -> Json:
    written: Json = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
    return written


def _tools_of(use: ToolUse) -> Json:
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                **({"parameters": tool.parameters} if tool.parameters is not None else {}),
                **({"strict": True} if tool.is_strict else {}),
            },
        }
        for tool in use.tools
    ]
    body: Json = {"tools": tools}
    if use.name is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": use.name}}
    elif use.choice is not ToolChoice.AUTO:
        body["tool_choice"] = use.choice.value
    if not use.is_parallel:
        body["parallel_tool_calls"] = False
    return body


def _format_of(guide: JsonSchemaShape | JsonObjectShape) -> Json:
    if isinstance(guide, JsonSchemaShape):
        schema = {"name": "answer", "schema": json.loads(guide.schema), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"}


def _delta_of(choice: Json) -> TextDelta:
    said = choice.get("delta") or {}
    text = said.get("content") or choice.get("text") or ""
    reasoning = said.get("reasoning_content") or said.get("reasoning") or ""
    calls = tuple(_call_of(call) for call in said.get("tool_calls") or ())
    reason = choice.get("finish_reason")
    # Servers do not say how many tokens a chunk has; nearly all send one a token, and the usage at
    # the end is theirs.
    has_token = bool(text or reasoning or calls)
    return TextDelta(
        index=int(choice["index"]),
        text=text,
        num_tokens=1 if has_token else 0,
        reasoning=reasoning,
        num_reasoning_tokens=1 if reasoning else 0,
        tool_calls=calls,
        logprobs=_logprobs_of(choice.get("logprobs")),
        finish_reason=_REASONS.get(reason, FinishReason.STOP) if reason else None,
    )


def _call_of(call: Json) -> ToolCallDelta:
    function = call.get("function") or {}
    return ToolCallDelta(
        index=int(call["index"]),
        id=call.get("id") or "",
        name=function.get("name") or "",
        arguments=function.get("arguments") or "",
    )


def _logprobs_of(told: Json | None) -> tuple[TextLogprob, ...] | None:
    if told is None:
        return None
    if "content" in told:
        return tuple(
            TextLogprob(
                token=one["token"],
                token_bytes=_bytes_of(one),
                logprob=one["logprob"],
                top=tuple(
                    (other["token"], _bytes_of(other), other["logprob"])
                    for other in one.get("top_logprobs") or ()
                ),
            )
            for one in told["content"] or ()
        )
    tops = told.get("top_logprobs") or [None] * len(told["tokens"])
    return tuple(
        TextLogprob(
            token=token,
            token_bytes=token.encode(),
            logprob=logprob,
            top=tuple((other, other.encode(), value) for other, value in (top or {}).items()),
        )
        for token, logprob, top in zip(told["tokens"], told["token_logprobs"], tops, strict=True)
    )


def _bytes_of(told: Json) -> bytes:
    given = told.get("bytes")
    return bytes(given) if given is not None else str(told["token"]).encode()
