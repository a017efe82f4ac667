"""What is seen of a prompt without a tokeniser: where two begin alike, and how long it is.

A conversation is read as its messages one after another, so that the next turn begins with all of
this one. Four bytes stand for a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.generation import ChatPrompt, TextPrompt, TokensPrompt
from mm_orch.optimization.replicas.held_prefixes import (
    count_text_tokens,
    name_blocks,
    name_text_blocks,
)
from mm_orch.workers.queued_tokens import expect_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.generation import GenerationRequest, Message
    from mm_orch.core.tools import ToolUse

_OPENING_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """A request's prompt, as the choice of a server sees it.

    Attributes:
        names: its blocks, of ``held_prefixes``.
        num_tokens: in all; exact where tokens are what was given.
        num_answers: that are asked for.
        num_answer_tokens: that are expected of each.
        opening: the same for all turns of a conversation; empty where that cannot be seen.
        conversation: its explicit name; empty for none.
    """

    names: tuple[int, ...]
    num_tokens: int
    num_answers: int = 1
    num_answer_tokens: int = 0
    opening: str = ""
    conversation: str = ""


def view(request: GenerationRequest) -> PromptView:
    """Return what is seen of a request's prompt."""
    opening = ""
    match request.prompt:
        case TokensPrompt(token_ids):
            names, num_tokens = name_blocks(token_ids), len(token_ids)
        case TextPrompt(prompt):
            names, num_tokens = _measure(prompt.encode())
        case ChatPrompt(messages, tool_use):
            text, opening = _read(messages, tool_use)
            names, num_tokens = _measure(text)
    return PromptView(
        names=names,
        num_tokens=num_tokens,
        num_answers=request.options.num_choices,
        num_answer_tokens=expect_tokens(request.options.max_tokens),
        opening=opening,
        conversation=request.conversation_id,
    )


def _measure(text: bytes) -> tuple[tuple[int, ...], int]:
    return name_text_blocks(text), count_text_tokens(text)


def _read(messages: Sequence[Message], tool_use: ToolUse | None) -> tuple[bytes, str]:
    """Return a conversation's text, and what stands for all up to the user's first message."""
    # What may be called stands before the messages in most templates.
    text = bytearray(msgspec.json.encode(tool_use.tools) if tool_use else b"")
    opening = ""
    for message in messages:
        text += msgspec.json.encode(message)
        if not opening and message.role == "user":
            opening = blake2b(text, digest_size=_OPENING_BYTES).hexdigest()
    return bytes(text), opening
