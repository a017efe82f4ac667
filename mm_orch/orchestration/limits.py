"""Which values a caller's generation options may have, whichever face they came through."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.priority import MAX_PRIORITY, MIN_PRIORITY

if TYPE_CHECKING:
    from mm_orch.core.generation import GenerationOptions

MAX_CHOICES = 16
MAX_EMBEDDING_INPUTS = 2048
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_BIAS = 100.0
MAX_TOP_K = 2**31 - 1
MIN_REPETITION_PENALTY = 0.01
MAX_REPETITION_PENALTY = 10.0
SEED_BOUND = 2**63
CONVERSATION_ID = r"^[A-Za-z0-9._:-]{1,128}$"
_MAX_SHOWN_CHARS = 40

# Field: smallest and largest value, both allowed.
_RANGES = {
    "max_tokens": (1, math.inf),
    "min_tokens": (0, math.inf),
    "temperature": (0.0, 2.0),
    "top_k": (0, MAX_TOP_K),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "num_logprobs": (0, MAX_LOGPROBS),
    "num_choices": (1, MAX_CHOICES),
    # Below, logits divided by it would leave the range of their number format.
    "repetition_penalty": (MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY),
    "seed": (-SEED_BOUND, SEED_BOUND - 1),
}
# Zero is not allowed here: no token would be left.
_RANGES_ABOVE_ZERO = {"top_p": 1.0}


def check_conversation_id(conversation_id: object) -> None:
    """Refuse what cannot name a conversation.

    Raises:
        InvalidValueError: says what can.
    """
    if isinstance(conversation_id, str) and re.fullmatch(CONVERSATION_ID, conversation_id):
        return
    raise InvalidValueError(
        f"conversation_id is {repr(conversation_id)[:_MAX_SHOWN_CHARS]}; allowed: 1 to 128 letters,"
        " digits, '.', '_', ':' and '-'.",
        param="conversation_id",
    )


def check_priority(priority: object) -> None:
    """Refuse what is out of range.

    Raises:
        InvalidValueError: names the range.
    """
    # True is no priority, though Python takes it for a number.
    if type(priority) is int and MIN_PRIORITY <= priority <= MAX_PRIORITY:
        return
    raise InvalidValueError(
        f"priority is {repr(priority)[:_MAX_SHOWN_CHARS]}; allowed: whole numbers from"
        f" {MIN_PRIORITY} to {MAX_PRIORITY}.",
        param="priority",
    )


def check_options(options: GenerationOptions) -> None:
    """Refuse values out of range.

    Raises:
        InvalidValueError: names the field, its value and the range.
    """
    for field, (low, high) in _RANGES.items():
        value = getattr(options, field)
        # Written so that NaN fails as well.
        if value is not None and not low <= value <= high:
            bound = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise InvalidValueError(f"{field} is {value}; allowed: {bound}.", param=field)
    for field, high in _RANGES_ABOVE_ZERO.items():
        value = getattr(options, field)
        if value is not None and not 0 < value <= high:
            raise InvalidValueError(
                f"{field} is {value}; allowed: above 0, up to {high:g}.", param=field
            )
    for token_id, bias in options.logit_bias.items():
        if not -MAX_BIAS <= bias <= MAX_BIAS:
            raise InvalidValueError(
                f"logit_bias of token {token_id} is {bias}; allowed: -100 to 100.",
                param="logit_bias",
            )
    if len(options.stop) > MAX_STOP_STRINGS or "" in options.stop:
        raise InvalidValueError(
            f"stop takes up to {MAX_STOP_STRINGS} strings, none of them empty.", param="stop"
        )
