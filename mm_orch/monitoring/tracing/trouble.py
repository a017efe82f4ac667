"""Tells of exports that fail: in our words, at most once a minute, with the SDK's reason."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mm_orch.core.clock import Clock

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 60.0
_MAX_SHOWN_CHARS = 300
_THEIRS = "opentelemetry"
_UNKNOWN = "the collector did not take them"


class TroubleLog:
    """Says when exports begin to fail, once a minute while they do, and when they work again.

    Args:
        destination: where spans go, for people.
        clock: for the minute.
    """

    def __init__(self, destination: str, clock: Clock = time.monotonic) -> None:
        self._destination = destination
        self._clock = clock
        self._told_s: float | None = None
        self._is_failing = False

    def failed(self, reason: str, num_lost: int) -> None:
        """Note a failed export; ``num_lost`` are all the exchanges' and requests' ends lost yet."""
        self._is_failing = True
        now_s = self._clock()
        if self._told_s is not None and now_s - self._told_s < _LOG_EVERY_S:
            return
        self._told_s = now_s
        logger.warning(
            "traces cannot be sent to %s: %s. %d events are lost so far, requests go on."
            " Check monitoring.tracing.endpoint and the collector there.",
            self._destination,
            reason[:_MAX_SHOWN_CHARS].rstrip(". "),
            num_lost,
        )

    def worked(self) -> None:
        """Note an export that reached its collector."""
        if self._is_failing:
            self._is_failing = False
            self._told_s = None
            logger.info("traces are sent to %s again", self._destination)


class LastWords(logging.Handler):
    """Keeps what the SDK would log of each failure, as a reason to be told with ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._first = ""
        self._last = _UNKNOWN

    def listen(self) -> None:
        """Take the SDK's lines from all other logs."""
        theirs = logging.getLogger(_THEIRS)
        theirs.addHandler(self)
        theirs.propagate = False

    def stop_listening(self) -> None:
        """Let the SDK log as before."""
        theirs = logging.getLogger(_THEIRS)
        theirs.removeHandler(self)
        theirs.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        # Of one failure the first line says why, and the last that it was given up.
        self._first = self._first or record.getMessage()

    def forget(self) -> None:
        """Begin anew: what was said before is no reason for what comes."""
        self._first = ""

    def take(self) -> str:
        """Return the reason of the failure that has just been; the SDK says each only once."""
        self._last, self._first = self._first or self._last, ""
        return self._last
