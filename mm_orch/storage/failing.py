"""Remembers why nothing can be stored, until something is."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Failing:
    """What the last calls of a database have shown.

    Args:
        name: of the database, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._failure: str | None = None
        self._is_failing_to_write = False

    @property
    def failure(self) -> str | None:
        """Why the last call failed; None where it did not, or none was made."""
        return self._failure

    def note(self, message: str, *, is_write: bool = False, detail: str = "") -> None:
        """Remember a failure, and log it once.

        Args:
            message: that anybody may read.
            is_write: what could not be written can often be read; that says nothing then.
            detail: for the log alone.
        """
        self._is_failing_to_write |= is_write
        if message != self._failure:
            logger.warning("%s: %s", self._name, f"{message} {detail}".rstrip())
        self._failure = message

    def note_success(self, *, is_write: bool) -> None:
        """Forget the failure, where this shows that it is over."""
        if self._failure is not None and (is_write or not self._is_failing_to_write):
            logger.info("%s can be used again", self._name)
            self._failure, self._is_failing_to_write = None, False
