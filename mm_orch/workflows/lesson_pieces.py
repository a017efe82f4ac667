"""Has a model write the pieces of a lesson, each in a shape whose greatest length is known.

A piece is a small JSON object of texts with bounds. So how many tokens it may take at most is known
before it is written, and no piece is ever cut off by ``max_tokens``: a token stands for a byte or
more.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import FinishReason
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.orchestration.limits import SEED_BOUND
from mm_orch.workflows.lesson_checks import tidy
from mm_orch.workflows.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from mm_orch.core.generation import GenerationOptions, Message
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.generating import RunModels
    from mm_orch.workflows.lesson_schema import Language

T = TypeVar("T")
Fields = dict[str, list[str]]
"""The texts of a piece, by field; of a field that is no list, one."""

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
# Side by side; a batch of them takes little longer than one.
_WIDTH = 4
_TEMPERATURE = 0.7
_TOP_P = 0.95
# What was drawn once is not to be drawn again.
_WARMER = 0.15
_MAX_WARMED = 1.3
_SEED_STRIDE = 1009
# What the grammar allows between the parts of JSON: two line ends and 20 blanks.
_GAP_BYTES = 22
# For what a model thinks before it writes a piece.
_THOUGHT_TOKENS = 4096

# What a text begins with, and goes on with: so it is never blank, and its bytes are bounded. A
# quotation mark takes two bytes in JSON, like the letters of Latin languages.
_BEGIN = {"en": "[A-Za-z0-9]", "zh": "[0-9\u4e00-\u9fff]"}
_REST = {
    "en": r"[ !-\[\]-~\u00a1-\u024f\u0370-\u03ff]",
    "zh": r"[ !-\[\]-~\u3001-\u3003\u300a-\u3011\u4e00-\u9fff\uff01-\uff1f]",
}
_QUESTION_MARK = {"en": r"\?", "zh": r"\uff1f"}
_CHAR_BYTES = {"en": 2, "zh": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A text of a piece, or a list of texts.

    Attributes:
        least: characters of each text.
        most: the same.
        count: texts of the list; None for a text that stands alone.
        is_question: each text ends with a question mark.
    """

    name: str
    least: int
    most: int
    count: int | None = None
    is_question: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a model is to write at once.

    Attributes:
        fields: of the JSON object, in the order in which they are written.
        language: of the texts.
    """

    fields: tuple[Field, ...]
    language: Language

    @property
    def schema(self) -> str:
        """The JSON schema, as text."""
        return json.dumps(
            {
                "type": "object",
                "properties": {field.name: self._schema_of(field) for field in self.fields},
                "required": [field.name for field in self.fields],
                "additionalProperties": False,
            }
        )

    @property
    def max_tokens(self) -> int:
        """The most tokens that it can take, whatever the tokeniser."""
        return _GAP_BYTES + 2 + sum(map(self._max_bytes, self.fields)) + 1

    def reaches_bound(self, name: str, text: str) -> bool:
        """Whether a field's text is as long as it may be: it was ended, and not by the model."""
        return any(field.name == name and len(text) >= field.most for field in self.fields)

    def read(self, text: str) -> Fields | None:
        """Return the texts of what a model wrote, tidied; None where it is none of this piece."""
        try:
            content = json.loads(text)
        except ValueError:
            return None
        if not isinstance(content, dict):
            return None
        found = {field.name: _texts_of(content.get(field.name)) for field in self.fields}
        for field in self.fields:
            texts = found[field.name]
            if len(texts) != (field.count or 1) or any(len(one) > field.most for one in texts):
                return None
        return found

    def _schema_of(self, field: Field) -> dict[str, Any]:
        begin, rest = _BEGIN[self.language], _REST[self.language]
        end = _QUESTION_MARK[self.language] if field.is_question else ""
        num_ends = 2 if field.is_question else 1
        bounds = f"{{{field.least - num_ends},{field.most - num_ends}}}"
        text = {"type": "string", "pattern": f"^{begin}{rest}{bounds}{end}$"}
        if field.count is None:
            return text
        return {"type": "array", "items": text, "minItems": field.count, "maxItems": field.count}

    def _max_bytes(self, field: Field) -> int:
        around = len(field.name) + 4 + 3 * _GAP_BYTES
        count = field.count or 1
        text = field.most * _CHAR_BYTES[self.language] + 2
        return around + count * text + (0 if field.count is None else 2 + count * (2 * _GAP_BYTES))


def check_room(call: WorkflowCall, pieces: Iterable[Piece]) -> None:
    """Refuse a call whose ``max_tokens`` could cut a piece.

    Raises:
        InvalidValueError: says the least.
    """
    least = max(piece.max_tokens for piece in pieces)
    wanted = call.options.max_tokens
    if wanted is not None and wanted < least:
        raise InvalidValueError(
            f"{call.max_tokens_param} is {wanted}; a lesson's pieces are bounded, and the longest"
            f" may take {least} tokens.",
            param=call.max_tokens_param,
            remedy=f"Leave it out, or ask for {least} or more.",
        )


class PieceWriter:
    """Asks the models of one run for pieces.

    Args:
        models: of the run.
        options: of the call.
        context: instructions of the call, shown before each task.
        remaining_s: gives the seconds that are left; None for any number.
    """

    def __init__(
        self,
        models: RunModels,
        options: GenerationOptions,
        *,
        context: tuple[Message, ...],
        remaining_s: Callable[[], float | None],
    ) -> None:
        self._models = models
        self._options = options
        self._context = context
        self._remaining_s = remaining_s

    async def write(
        self, piece: Piece, task: tuple[Message, ...], *, number: int, attempt: int
    ) -> Fields | None:
        """Have a piece written; None where what came cannot be read.

        Args:
            piece: its shape.
            task: what the model is told, the last of it by its user.
            number: tells it from others of the lesson, and chooses its seed.
            attempt: counts from 0; each draws otherwise.

        Raises:
            RequestError, OverloadError, DeadlineError, EngineError: as every generation.
        """
        reply = await self._models.answer(
            (*self._context, *task),
            timeout_s=self._remaining_s(),
            options=self._options_of(piece, number, attempt),
        )
        fields = piece.read(reply.text) if reply.finish_reason is FinishReason.STOP else None
        if fields is None:
            logger.debug("piece %d, attempt %d: it is not whole", number, attempt)
        return fields

    def _options_of(self, piece: Piece, number: int, attempt: int) -> GenerationOptions:
        asked = self._options
        temperature = _TEMPERATURE if asked.temperature is None else asked.temperature
        # What is greedy is to be the same each time, its repetitions too.
        seed = 0 if asked.seed is None and asked.temperature == 0 else asked.seed
        # What a model thinks before it writes counts as a part of the answer.
        is_thinking = self._models.usage.num_reasoning_tokens > 0
        return replace(
            asked,
            guide=JsonSchemaShape(piece.schema),
            max_tokens=piece.max_tokens + (_THOUGHT_TOKENS if is_thinking else 0),
            temperature=min(temperature + attempt * _WARMER, max(temperature, _MAX_WARMED)),
            top_p=_TOP_P if asked.top_p is None else asked.top_p,
            seed=None if seed is None else _wrap(seed + _SEED_STRIDE * number + attempt),
            min_tokens=0,
            ignore_eos=False,
            stop=(),
            num_logprobs=None,
        )


async def fill_pieces(
    numbers: Iterable[int],
    write: Callable[[int, int], Coroutine[Any, Any, T | None]],
    accept: Callable[[int, T], bool],
) -> None:
    """Have pieces written, a few at the same time, and those again that are not accepted.

    Pieces are accepted in the order of their numbers, whichever comes first: so the same draws
    make the same lesson.

    Args:
        numbers: of the pieces.
        write: gives a piece by number and attempt, or None.
        accept: takes a piece, or says that it cannot be used.

    Raises:
        MuAIError: the first that writing a piece raised; the others are ended.
    """
    missing = list(numbers)
    for attempt in range(MAX_ATTEMPTS):
        refused: list[int] = []
        for first in range(0, len(missing), _WIDTH):
            group = missing[first : first + _WIDTH]
            written = await side_by_side(write(number, attempt) for number in group)
            for number, piece in zip(group, written, strict=True):
                if piece is None or not accept(number, piece):
                    refused.append(number)
        missing = refused


def _wrap(seed: int) -> int:
    """Return the seed in the range of 64 bits."""
    return (seed + SEED_BOUND) % (2 * SEED_BOUND) - SEED_BOUND


def _texts_of(value: object) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    # JSON may spell halves of characters, which no text has.
    return [tidy(one.encode("utf-8", "ignore").decode()) for one in entries if isinstance(one, str)]
