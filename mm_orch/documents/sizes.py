"""Which sizes of chunks and which names are allowed, and which sizes are taken unasked."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError
from mm_orch.documents.chunking import MAX_OVERLAP_SHARE, MIN_CHUNK_SIZE
from mm_orch.storage.documents import MAX_NAME_CHARS

if TYPE_CHECKING:
    from typing import Protocol

    class Measured(Protocol):
        """What an embedding model says of texts; see orchestration.generation.TextMeter."""

        @property
        def context_length(self) -> int:
            """Most tokens of a text."""


MAX_CHUNK_SIZE = 2048
"""Above, a chunk says too much to be found by."""
DEFAULT_CHUNK_SIZE = 192
DEFAULT_OVERLAP = 32

# Of English about four.
_BYTES_PER_TOKEN = 4


class GuessingTextMeter:
    """Guesses tokens where there is no embedding model whose tokeniser could count them."""

    context_length = MAX_CHUNK_SIZE

    def count(self, text: str) -> int:
        """Return about how many tokens a text has."""
        return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def choose_sizes(size: int | None, overlap: int | None, meter: Measured) -> tuple[int, int]:
    """Return the tokens of a chunk, and those of its overlap.

    Args:
        size: as it is asked for; None for the default, or what the model takes if that is less.
        overlap: as it is asked for; None for the default, or as much as the size allows.
        meter: of the model that embeds the chunks.

    Raises:
        InvalidValueError: they are not allowed; says what is.
    """
    largest = min(MAX_CHUNK_SIZE, meter.context_length)
    size = min(DEFAULT_CHUNK_SIZE, largest) if size is None else size
    if not MIN_CHUNK_SIZE <= size <= largest:
        raise InvalidValueError(
            f"chunk_size is {size}; allowed: {MIN_CHUNK_SIZE} to {largest} tokens.",
            param="chunk_size",
        )
    most = int(size * MAX_OVERLAP_SHARE)
    overlap = min(DEFAULT_OVERLAP, most) if overlap is None else overlap
    if not 0 <= overlap <= most:
        raise InvalidValueError(
            f"chunk_overlap is {overlap}; allowed: 0 to {most} tokens, half of chunk_size.",
            param="chunk_overlap",
        )
    return size, overlap


def check_name(name: str) -> None:
    """Refuse what is no file's name.

    Raises:
        InvalidValueError: says what is.
    """
    is_plain = all(unicodedata.category(one) not in {"Cc", "Cs"} for one in name)
    if not 0 < len(name) <= MAX_NAME_CHARS or not is_plain or set(name) & {"/", "\\"}:
        raise InvalidValueError(
            f"The name is {name[:MAX_NAME_CHARS]!r}; allowed: 1 to {MAX_NAME_CHARS} characters, no"
            " slashes and no control characters.",
            param="name",
        )
