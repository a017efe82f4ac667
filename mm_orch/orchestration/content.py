"""What was asked and answered, kept for traces where the operator has asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.generation import ChatPrompt, TextPrompt

if TYPE_CHECKING:
    from mm_orch.core.generation import Prompt, TextDelta


class Content:
    """The prompt and the choices' texts of one request."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = _as_text(prompt)
        self._texts: dict[int, list[str]] = {}

    @property
    def answers(self) -> tuple[str, ...]:
        """The text of each choice that has any, in order of their index."""
        return tuple("".join(self._texts[index]) for index in sorted(self._texts))

    def take(self, delta: TextDelta) -> None:
        """Keep new text of a choice, its thoughts included."""
        self._texts.setdefault(delta.index, []).append(delta.reasoning + delta.text)


def _as_text(prompt: Prompt) -> str:
    match prompt:
        case ChatPrompt(messages=messages):
            return msgspec.json.encode(messages).decode()
        case TextPrompt(text=text):
            return text
        case _:
            return msgspec.json.encode(prompt.token_ids).decode()
