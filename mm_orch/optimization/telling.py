"""Says of errors what people need: those that are no surprise without where they were raised."""

from __future__ import annotations

import logging

from mm_orch.core.errors import MuAIError

logger = logging.getLogger(__name__)


def log_failure(what: str, error: Exception) -> None:
    """Write a failure to the log."""
    logger.error("%s: %s", what, error, exc_info=error if _is_surprise(error) else None)


def say(error: Exception) -> str:
    """Return what an error says, with its class where that was not expected."""
    return f"{type(error).__name__}: {error}" if _is_surprise(error) else str(error)


def _is_surprise(error: Exception) -> bool:
    return not isinstance(error, MuAIError | OSError)
