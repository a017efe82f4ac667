"""What a call of the Python face may say, and the request that it makes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import (
    ChatPrompt,
    GenerationOptions,
    GenerationRequest,
    Message,
    TextPrompt,
)
from mm_orch.orchestration.limits import check_conversation_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.core.generation import Prompt

    Conversation = Sequence[Mapping[str, str]]


class Options(TypedDict, total=False):
    """What every call may say besides its prompt; the names are those of the HTTP API."""

    model: str
    timeout_s: float
    conversation_id: str
    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    seed: int
    logit_bias: dict[int, float]
    stop: Sequence[str]
    ignore_eos: bool


def make_request(prompt: str | Conversation, *, raw: bool, options: Options) -> GenerationRequest:
    """Return the request that a call asks for.

    Raises:
        InvalidValueError: an option of the wrong type, or an unknown one.
    """
    values: dict[str, Any] = dict(options)
    if isinstance(stop := values.get("stop"), str):
        values["stop"] = (stop,)
    model, timeout_s = values.pop("model", None), values.pop("timeout_s", None)
    conversation_id = values.pop("conversation_id", None)
    if conversation_id is not None:
        check_conversation_id(conversation_id)
    try:
        checked = msgspec.convert(values, GenerationOptions)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"A generation option is wrong: {error}.") from error
    return GenerationRequest(
        request_id=f"req-{uuid.uuid4().hex}",
        prompt=_as_prompt(prompt, raw=raw),
        model=model,
        timeout_s=timeout_s,
        conversation_id=conversation_id or "",
        options=checked,
    )


def _as_prompt(prompt: str | Conversation, *, raw: bool) -> Prompt:
    if isinstance(prompt, str):
        return TextPrompt(prompt) if raw else ChatPrompt((Message(role="user", content=prompt),))
    return ChatPrompt(tuple(Message(role=turn["role"], content=turn["content"]) for turn in prompt))
