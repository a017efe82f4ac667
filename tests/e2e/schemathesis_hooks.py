"""Keeps what Schemathesis makes up short and about the model that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import schemathesis

if TYPE_CHECKING:
    from schemathesis import Case, HookContext, SerializationContext

_MAX_TOKENS = 3
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens")
_MODEL = "smollm2-135m"
_EMBEDDER = "minilm"
_EMBEDDINGS_PATH = "/v1/embeddings"
_RESPONSES_PATH = "/v1/responses"
_NATIVE_PATHS = ("/api/query", "/api/chat", "/api/rag/query")
_WORKFLOW = "chat_generate"
_MAX_NAME_CHARS = 200
_MAX_TEXTS = 2048
_FEW_TEXTS = 8


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, object]) -> None:  # noqa: ARG001 - Schemathesis names them
    """Replace valid values by valid values only, so that what was made wrong stays wrong."""
    body = case.body
    if not isinstance(body, dict):
        return
    if case.path in _NATIVE_PATHS:
        _shorten_native(body)
        return
    is_embedding = case.path == _EMBEDDINGS_PATH
    if is_embedding:
        _shorten_input(body)
    else:
        _shorten(body, "max_output_tokens" if case.path == _RESPONSES_PATH else "max_tokens")
    _name_one_that_is_there(body, "model", _EMBEDDER if is_embedding else _MODEL)


def _name_one_that_is_there(body: dict[str, object], field: str, name: str) -> None:
    made_up = body.get(field)
    # Nearly every made-up name would only show again that it is not found.
    if isinstance(made_up, str) and len(made_up) <= _MAX_NAME_CHARS and len(made_up) % 4:
        body[field] = name


def _shorten_native(body: dict[str, object]) -> None:
    _name_one_that_is_there(body, "workflow_type", _WORKFLOW)
    wished = body.get("preferences")
    if wished is None:
        wished = body["preferences"] = {}
    if isinstance(wished, dict):
        _name_one_that_is_there(wished, "model", _MODEL)
        value = wished.get("max_tokens")
        if value is None or (type(value) is int and value > _MAX_TOKENS):
            wished["max_tokens"] = _MAX_TOKENS


def _shorten_input(body: dict[str, object]) -> None:
    # As many as are allowed, all the same: computing them shows no more than a few do.
    texts = body.get("input")
    if isinstance(texts, list) and len(texts) <= _MAX_TEXTS:
        body["input"] = texts[:_FEW_TEXTS] if all(text == texts[0] for text in texts) else texts


def _shorten(body: dict[str, object], own_name: str) -> None:
    for name in _LENGTHS:
        value = body.get(name)
        if type(value) is int and value > _MAX_TOKENS:
            body[name] = _MAX_TOKENS
    if all(body.get(name) is None for name in (own_name, "max_completion_tokens")):
        body[own_name] = _MAX_TOKENS
    # What the schema cannot say: at least one token, one of the vocabulary.
    if body.get("prompt") == "":
        body["prompt"] = "a"
    if isinstance(body.get("stream_options"), dict) and (body.get("stream") is None):
        body["stream"] = True


@schemathesis.serializer("application/x-ndjson")
def write_lines(context: SerializationContext, value: object) -> bytes:  # noqa: ARG001 - Schemathesis names them
    """Write a made-up text as it is; what is none stays wrong."""
    return str(value).encode("utf-8", "replace")
