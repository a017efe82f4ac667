"""What users of a soak ask for, drawn from a seed: all kinds of requests, good and bad ones."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_orch.benchmarking.vocabulary import WORDS

if TYPE_CHECKING:
    import random

CHAT = "/v1/chat/completions"
_TEXT = "/v1/completions"
_EMBED = "/v1/embeddings"

STEADY, ROUGH, EMBED = "steady", "rough", "embed"
"""The models: one that is left alone, one that is killed and unloaded, one that embeds texts."""

_NUM_WORDS = (3, 80)
_NUM_WORDS_TOO_LONG = 1500
_NUM_TOKENS = (1, 48)
_NUM_LONG_TOKENS = 200
_NUM_TURNS = (2, 4)
_NUM_TEXTS = (1, 4)
_CUT_AFTER_S = (0.0, 3.0)
_TIMEOUT_S = (0.05, 1.5)
_SHARE_STEADY = 0.6


class Kind(enum.Enum):
    """What a user does."""

    STREAM = "stream"
    WHOLE = "whole"
    CONVERSATION = "conversation"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    CUT_STREAM = "cut_stream"
    CUT_WHOLE = "cut_whole"
    LATE = "late"
    TOO_LONG = "too_long"
    UNKNOWN_MODEL = "unknown_model"
    MALFORMED = "malformed"


class Account(enum.Enum):
    """Whether the server keeps an account of a request, which its metrics and its log tell of.

    One that cannot be read has none, and one whose client leaves may have left before it was read.
    """

    NONE = "none"
    ONE = "one"
    PERHAPS = "perhaps"


_WEIGHT_BY_KIND = {
    Kind.STREAM: 20,
    Kind.WHOLE: 14,
    Kind.CONVERSATION: 10,
    Kind.COMPLETION: 10,
    Kind.EMBEDDING: 10,
    Kind.CUT_STREAM: 12,
    Kind.CUT_WHOLE: 6,
    Kind.LATE: 6,
    Kind.TOO_LONG: 4,
    Kind.UNKNOWN_MODEL: 4,
    Kind.MALFORMED: 4,
}
_CUT = (Kind.CUT_STREAM, Kind.CUT_WHOLE)
_STREAMED = (Kind.STREAM, Kind.CONVERSATION, Kind.CUT_STREAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a user does next.

    Attributes:
        model: STEADY, ROUGH or EMBED.
        path: of the request.
        fields: of the body, but for the model and a chat's messages.
        questions: what is said in each turn; a conversation has several. Empty where no chat is.
        cut_after_s: when the client leaves; None where it stays.
    """

    kind: Kind
    model: str
    path: str
    fields: dict[str, Any]
    questions: tuple[str, ...] = ()
    cut_after_s: float | None = None

    @property
    def account(self) -> Account:
        """Whether the server keeps one of each of its requests."""
        if self.kind is Kind.MALFORMED:
            return Account.NONE
        return Account.ONE if self.cut_after_s is None else Account.PERHAPS


def draw_act(dice: random.Random) -> Act:
    """Return what a user does next."""
    [kind] = dice.choices([*_WEIGHT_BY_KIND], [*_WEIGHT_BY_KIND.values()])
    model = STEADY if dice.random() < _SHARE_STEADY else ROUGH
    if kind is Kind.EMBEDDING:
        texts = [_say(dice) for _ in range(dice.randint(*_NUM_TEXTS))]
        return Act(kind=kind, model=EMBED, path=_EMBED, fields={"input": texts})
    fields = _fields_of(kind, dice)
    if kind is Kind.COMPLETION:
        fields["prompt"] = _say(dice)
        return Act(kind=kind, model=model, path=_TEXT, fields=fields)
    return Act(
        kind=kind,
        model=model,
        path=CHAT,
        fields=fields,
        questions=_questions_of(kind, dice),
        cut_after_s=dice.uniform(*_CUT_AFTER_S) if kind in _CUT else None,
    )


def _fields_of(kind: Kind, dice: random.Random) -> dict[str, Any]:
    is_long = kind in _CUT or kind is Kind.LATE
    fields: dict[str, Any] = {
        "max_tokens": _NUM_LONG_TOKENS if is_long else dice.randint(*_NUM_TOKENS),
        "temperature": dice.choice([0, 0.7]),
        "ignore_eos": is_long,
        "stream": kind in _STREAMED or (kind is Kind.LATE and dice.random() < 0.5),  # noqa: PLR2004 - one in two
        "priority": dice.choice([-5, 0, 0, 0, 5]),
    }
    if kind is Kind.LATE:
        fields["timeout_s"] = round(dice.uniform(*_TIMEOUT_S), 2)
    if kind is Kind.MALFORMED:
        fields["max_tokens"] = "many"
    return fields


def _questions_of(kind: Kind, dice: random.Random) -> tuple[str, ...]:
    if kind is Kind.TOO_LONG:
        return (_say(dice, _NUM_WORDS_TOO_LONG),)
    num_turns = dice.randint(*_NUM_TURNS) if kind is Kind.CONVERSATION else 1
    return tuple(_say(dice) for _ in range(num_turns))


def _say(dice: random.Random, num_words: int | None = None) -> str:
    return " ".join(dice.choices(WORDS, k=num_words or dice.randint(*_NUM_WORDS)))
