"""Turns a conversation into token ids with the template that the model brings."""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.errors import InvalidValueError, ModelStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import jinja2

    from mm_orch.core.generation import Message
    from mm_orch.models.text import TextCodec

_SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
# Two private characters around a random word: nothing that a user can have written.
_SENTINEL = "\ue000{}\ue001"


class ChatTemplate:
    """A compiled template. It comes with the model's files, so it runs in a sandbox."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        import jinja2

        try:
            self._template = _make_environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ModelStoreError(f"The model's chat template is faulty: {error}.") from error
        self._special_tokens = special_tokens

    @classmethod
    def find_in_directory(cls, directory: Path) -> ChatTemplate | None:
        """Read the model's template, or return None for a model without one.

        Raises:
            ModelStoreError: the template or tokenizer_config.json is faulty.
        """
        settings = _read_settings(directory / "tokenizer_config.json")
        path = directory / "chat_template.jinja"
        source = _read_template(path) if path.exists() else settings.get("chat_template")
        if isinstance(source, list):
            by_name = {entry["name"]: entry["template"] for entry in source}
            source = by_name.get("default")
        if not source:
            return None
        tokens = {name: _token_text(settings.get(name)) for name in _SPECIAL_TOKEN_NAMES}
        return cls(source, {name: text for name, text in tokens.items() if text is not None})

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """Return the prompt text, up to where the assistant's answer begins.

        Raises:
            InvalidValueError: the template refuses these messages, and says why.
        """
        import jinja2

        try:
            return self._template.render(
                messages=messages, add_generation_prompt=True, tools=None, **self._special_tokens
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise InvalidValueError(
                f"The model's chat template refuses these messages: {error}.", param="messages"
            ) from error


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelStoreError(f"{path} cannot be read: {error}.") from error


def encode_chat(codec: TextCodec, template: ChatTemplate, messages: Sequence[Message]) -> list[int]:
    """Render and tokenise a conversation; what users wrote never becomes a special token.

    Raises:
        InvalidValueError: the template refuses the messages, or a text is not valid Unicode.
    """
    guard = _Guard(codec.special_texts)
    turns = [msgspec.to_builtins(message) for message in messages]
    for turn in turns:
        turn["content"] = guard.hide(turn["content"])
    rendered = template.render(turns)
    if not guard.hidden:
        return codec.encode_rendered(rendered)
    # Pieces between sentinels are the template's; a sentinel stands for text that only looks
    # like a special token.
    token_ids: list[int] = []
    for piece in re.split(f"({'|'.join(map(re.escape, guard.hidden))})", rendered):
        literal = guard.hidden.get(piece)
        token_ids += (
            codec.encode_rendered(piece) if literal is None else codec.encode_literal(literal)
        )
    return token_ids


class _Guard:
    """Puts sentinels where a text holds the spelling of a special token."""

    def __init__(self, special_texts: Sequence[str]) -> None:
        self._special_texts = special_texts
        self.hidden: dict[str, str] = {}

    def hide(self, text: str) -> str:
        if not any(special in text for special in self._special_texts):
            return text
        pattern = "|".join(map(re.escape, self._special_texts))
        return re.sub(pattern, lambda match: self._sentinel_of(match[0]), text)

    def _sentinel_of(self, text: str) -> str:
        sentinel = _SENTINEL.format(secrets.token_hex(8))
        self.hidden[sentinel] = text
        return sentinel


def _make_environment() -> jinja2.Environment:
    """Make the environment that chat templates are written for (transformers, chat templating)."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from mm_orch.models.generation_block import GenerationBlock

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationBlock]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _make_refusal()
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    # Jinja's own escapes HTML, which no model has learnt.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _make_refusal() -> Callable[[str], None]:
    import jinja2

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    return refuse


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelStoreError(f"{path} cannot be read: {error}.") from error
    return settings if isinstance(settings, dict) else {}


def _token_text(setting: object) -> str | None:
    if isinstance(setting, dict):
        setting = setting.get("content")
    return setting if isinstance(setting, str) else None
