"""How much of uploads is received at the same time: their bodies are held in memory."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mm_orch.core.errors import QueueFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bodies of the greatest size that may be received for all callers together, and for one of them.
_MAX_BODIES = 4
_MAX_OWN_BODIES = 2
# No body counts as less than this part of the greatest, so that small ones are bounded in number.
_LEAST_PART = 16
_RETRY_AFTER_S = 1.0
_LENGTH = re.compile("[0-9]{1,18}")


class ReceivingPlaces:
    """Bounds what is received, before the first byte of it is.

    Args:
        max_bytes: of one body.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes_by_owner: Counter[str] = Counter()

    @contextmanager
    def take(self, owner: str, content_length: str | None) -> Iterator[None]:
        """Have room for a body while the context lasts.

        Args:
            owner: who sends it.
            content_length: the header; a body without one may be as long as any.

        Raises:
            QueueFullError: too much is being received for the caller, or for all.
        """
        # One that is no number, or a very long one, is refused elsewhere.
        is_number = content_length is not None and _LENGTH.fullmatch(content_length) is not None
        declared = int(content_length or 0) if is_number else self._max_bytes
        least = max(1, self._max_bytes // _LEAST_PART)
        num_bytes = min(self._max_bytes, max(least, declared))
        own, total = self._bytes_by_owner[owner], self._bytes_by_owner.total()
        if (
            own + num_bytes > _MAX_OWN_BODIES * self._max_bytes
            or total + num_bytes > _MAX_BODIES * self._max_bytes
        ):
            raise QueueFullError(
                f"Uploads of {own} bytes of this caller, and of {total} bytes in all, are being"
                f" received; at most {_MAX_OWN_BODIES * self._max_bytes} and"
                f" {_MAX_BODIES * self._max_bytes} are at once.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._bytes_by_owner[owner] += num_bytes
        try:
            yield
        finally:
            self._bytes_by_owner[owner] -= num_bytes
            if not self._bytes_by_owner[owner]:
                del self._bytes_by_owner[owner]
