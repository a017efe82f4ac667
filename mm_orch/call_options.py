"""What a call of the Python face may say, and the request that it makes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from mm_orch.core.embedding import EmbeddingRequest
from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import (
    ChatPrompt,
    GenerationOptions,
    GenerationRequest,
    Message,
    TextPrompt,
)
from mm_orch.orchestration.limits import MAX_EMBEDDING_INPUTS, check_conversation_id, check_priority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.core.generation import Prompt
    from mm_orch.documents.library import Upload

    Conversation = Sequence[Mapping[str, str]]


class Options(TypedDict, total=False):
    """What every call may say besides its prompt; the names are those of the HTTP API."""

    model: str
    timeout_s: float
    priority: int
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


class EmbeddingOptions(TypedDict, total=False):
    """What a call for vectors may say besides its texts."""

    model: str
    timeout_s: float
    priority: int
    dimensions: int


class UploadOptions(TypedDict, total=False):
    """What a call that stores a document may say besides its name and content."""

    metadata: dict[str, Any]
    chunk_size: int
    chunk_overlap: int
    timeout_s: float
    priority: int


def make_upload(name: str, content: bytes, *, options: UploadOptions) -> Upload:
    """Return the upload that a call asks for; its owner is whoever calls without a key.

    Raises:
        InvalidValueError: an option has the wrong type.
    """
    # Who asks only for answers does not wait for what reads files.
    from mm_orch.documents.library import Upload

    values = {"request_id": _new_id(), "owner": "", "name": name, "content": content, **options}
    try:
        return msgspec.convert(values, Upload)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"An option of the upload is wrong: {error}.") from error


def make_embedding_request(
    texts: str | Sequence[str], *, options: EmbeddingOptions
) -> EmbeddingRequest:
    """Return the request that a call for vectors asks for.

    Raises:
        InvalidValueError: no texts, too many, or an option of the wrong type.
    """
    inputs = (texts,) if isinstance(texts, str) else tuple(texts)
    if not 1 <= len(inputs) <= MAX_EMBEDDING_INPUTS:
        raise InvalidValueError(
            f"{len(inputs)} texts were given; allowed: 1 to {MAX_EMBEDDING_INPUTS}.", param="texts"
        )
    values = {"request_id": _new_id(), "inputs": inputs, **options}
    try:
        return msgspec.convert(values, EmbeddingRequest)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"An embedding option is wrong: {error}.") from error


def make_request(prompt: str | Conversation, *, raw: bool, options: Options) -> GenerationRequest:
    """Return the request that a call asks for.

    Raises:
        InvalidValueError: an option of the wrong type, or an unknown one.
    """
    values: dict[str, Any] = dict(options)
    if isinstance(stop := values.get("stop"), str):
        values["stop"] = (stop,)
    model, timeout_s = values.pop("model", None), values.pop("timeout_s", None)
    conversation_id, priority = values.pop("conversation_id", None), values.pop("priority", 0)
    check_priority(priority)
    if conversation_id is not None:
        check_conversation_id(conversation_id)
    try:
        checked = msgspec.convert(values, GenerationOptions)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"A generation option is wrong: {error}.") from error
    return GenerationRequest(
        request_id=_new_id(),
        prompt=_as_prompt(prompt, raw=raw),
        model=model,
        timeout_s=timeout_s,
        conversation_id=conversation_id or "",
        priority=priority,
        options=checked,
    )


def _new_id() -> str:
    return f"req-{uuid.uuid4().hex}"


def _as_prompt(prompt: str | Conversation, *, raw: bool) -> Prompt:
    if isinstance(prompt, str):
        return TextPrompt(prompt) if raw else ChatPrompt((Message(role="user", content=prompt),))
    return ChatPrompt(tuple(Message(role=turn["role"], content=turn["content"]) for turn in prompt))
