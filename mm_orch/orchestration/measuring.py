"""Says how many tokens a conversation, or a text, takes of a model's context, or guesses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.orchestration.preparation import encode_messages
from mm_orch.orchestration.vectors import encode_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.model_text import ModelText


# Of English about four; fewer, so that what is guessed to fit does.
_BYTES_PER_TOKEN = 3
_TOKENS_AROUND_MESSAGE = 4


def guess_tokens(messages: Iterable[Message]) -> int:
    """Return about how many tokens these are, rather more than fewer, without a tokeniser."""
    return sum(
        _TOKENS_AROUND_MESSAGE + len(message.content.encode()) // _BYTES_PER_TOKEN
        for message in messages
    )


class GuessingMeter:
    """A model whose tokeniser is elsewhere; implements orchestration.generation.Meter.

    Args:
        context_length: most tokens of prompt and answer together, where that is configured.
    """

    def __init__(self, context_length: int | None) -> None:
        self.context_length = context_length

    def count(self, messages: Sequence[Message]) -> int:
        """See Meter."""
        return guess_tokens(messages)


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


class TextMeter:
    """An embedding model's tokeniser; implements orchestration.generation.TextMeter."""

    def __init__(self, text: ModelText) -> None:
        self._text = text
        self.model = text.name

    @property
    def context_length(self) -> int:
        """Most tokens of a text."""
        return self._text.context_length

    def count(self, text: str) -> int:
        """See orchestration.generation.TextMeter."""
        return len(encode_text(text, self._text))
