"""Says how many tokens a conversation takes of a model's context, as the model itself counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.orchestration.preparation import encode_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.model_text import ModelText


class ChatMeter:
    """A model's template and tokeniser; implements orchestration.generation.Meter."""

    def __init__(self, text: ModelText) -> None:
        self._text = text

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._text.context_length

    def count(self, messages: Sequence[Message]) -> int:
        """See Meter."""
        return len(encode_messages(messages, self._text))
