"""Turns a conversation into token ids with the template that the model brings."""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import InvalidValueError, ModelStoreError
from mm_orch.models.tool_formats import GENERIC
from mm_orch.models.turns import add_instruction, describe_tools, make_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import jinja2

    from mm_orch.core.generation import Message
    from mm_orch.core.tools import Tool
    from mm_orch.models.text import TextCodec
    from mm_orch.models.tool_formats import ToolFormat

_SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
# Two private characters around a random word: nothing that a user can have written.
_SENTINEL = "\ue000{}\ue001"


class ChatTemplate:
    """A compiled template. It comes with the model's files, so it runs in a sandbox.

    Args:
        source: the template.
        special_tokens: their spellings, by the names that templates know.
        tool_source: the template for conversations with tools, where that is another.
    """

    def __init__(
        self, source: str, special_tokens: dict[str, str], tool_source: str | None = None
    ) -> None:
        import jinja2

        self.tool_source = tool_source or source
        environment = _make_environment()
        try:
            self._template = environment.from_string(source)
            self._tool_template = environment.from_string(self.tool_source)
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
        tool_source = None
        if isinstance(source, list):
            by_name = {entry["name"]: entry["template"] for entry in source}
            source, tool_source = by_name.get("default"), by_name.get("tool_use")
        if not source:
            return None
        tokens = {name: _token_text(settings.get(name)) for name in _SPECIAL_TOKEN_NAMES}
        special_tokens = {name: text for name, text in tokens.items() if text is not None}
        return cls(source, special_tokens, tool_source)

    def render(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()
    ) -> str:
        """Return the prompt text, up to where the assistant's answer begins.

        Raises:
            InvalidValueError: the template refuses these messages, and says why.
        """
        import jinja2

        has_tools = bool(tools) or any("tool_calls" in message for message in messages)
        template = self._tool_template if has_tools else self._template
        try:
            return template.render(
                messages=messages,
                add_generation_prompt=True,
                tools=list(tools) or None,
                **self._special_tokens,
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


def encode_chat(
    codec: TextCodec,
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] = (),
    form: ToolFormat = GENERIC,
) -> list[int]:
    """Render and tokenise a conversation; what users wrote never becomes a special token.

    Args:
        codec: the model's tokeniser.
        template: the model's template.
        messages: the turns.
        tools: what the model may call.
        form: how it writes calls, and whether its template can tell it of tools.

    Raises:
        InvalidValueError: the template refuses the messages, or a text is not valid Unicode.
    """
    if tools and not form.is_native:
        messages, tools = add_instruction(messages, tools, form), ()
    guard = _Guard(codec.special_texts)
    turns: list[dict[str, Any]] = guard.hide(make_turns(messages, form))
    rendered = template.render(turns, guard.hide(describe_tools(tools)))
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

    def hide(self, value: Any) -> Any:
        """Return the same with sentinels in every text."""
        match value:
            case str():
                return self._hide_text(value)
            case dict():
                return {self.hide(key): self.hide(inner) for key, inner in value.items()}
            case list():
                return [self.hide(inner) for inner in value]
            case _:
                return value

    def _hide_text(self, text: str) -> str:
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


def _to_json(  # the arguments that transformers gives it
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates pass them as they like
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    # Jinja's own escapes HTML, which no model has learnt.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _make_refusal() -> Callable[[str], None]:
    import jinja2

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    return refuse


def has_template(directory: Path) -> bool:
    """Whether a model seems to bring a chat template; looks at its files, and compiles nothing."""
    if (directory / "chat_template.jinja").exists():
        return True
    try:
        return b'"chat_template"' in (directory / "tokenizer_config.json").read_bytes()
    except OSError:
        return False


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
